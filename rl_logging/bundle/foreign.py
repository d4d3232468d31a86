"""Run directories may come from anywhere: what in one could lead out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

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
