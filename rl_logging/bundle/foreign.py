"""Run directories may come from anywhere: what in one could lead out of it, never end, or fill the memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 64 << 20
"""No file that is read as a whole is larger than that."""

ROOM_TO_GROW: Final = 1 << 12
"""Bytes that a file may gain between the look at its size and its reading, and are read with it."""

OWN: Final = (
    "run.json",
    "writer.json",
    "writer.lock",
    "writer.lease",
    "rewinds.json",
    "delivery.log",
    "journal",
    "sinks",
    "media",
    "models",
)
"""What is read and written below a run directory without asking `Bundle.resolve`."""


class ForeignError(OSError):
    """A file of a run directory is none that we would have made; the message says which and why."""


def read_kept(path: Path) -> bytes:
    """Returns what a file holds.

    Raises:
        OSError: It cannot be read; `ForeignError` where it is a pipe, a device, or too large.
    """
    # A pipe would have us wait for whoever writes it.
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(fd, "rb") as file:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise ForeignError(0, "is no file", str(path))
        # Asked for at most what is there: room for the limit would be taken for every small file.
        data = file.read(min(about.st_size, MOST_BYTES) + ROOM_TO_GROW)
    if len(data) > MOST_BYTES:
        raise ForeignError(0, f"has more than {MOST_BYTES:,} bytes", str(path))
    return data


def ways_out(root: Path) -> Iterator[Path]:
    """Yields what in a run directory is ours to write and a link that leads out of it."""
    resolved = root.resolve()
    for name in OWN:
        if _leads_out(root / name, resolved):
            yield root / name
    yield from strange(root / "sinks", resolved)


def strange(folder: Path, root: Path) -> Iterator[Path]:
    """Yields what lies below `folder` and is a link out of `root` (a resolved path), a pipe or a device."""
    for current, folders, files in os.walk(folder):
        for path in (Path(current, name) for name in (*folders, *files)):
            if _leads_out(path, root) or _is_special(path):
                yield path


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:  # gone since
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _leads_out(path: Path, root: Path) -> bool:
    if not path.is_symlink():
        return False
    try:
        return not path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a link to itself
        return True
