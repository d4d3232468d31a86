"""Reading a file of a run directory as a whole: what never ends or would fill the memory is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 64 << 20
"""No file that is read as a whole is larger than that."""

ROOM_TO_GROW: Final = 1 << 12
"""Bytes that a file may gain between the look at its size and its reading, and are read with it."""


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
