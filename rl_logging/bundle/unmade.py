"""Directories of runs that were never made: whoever began one was killed before its manifest was there.

Nothing was logged in them, so they keep no run's id, and may be taken over or deleted.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rl_logging.bundle.claim import WRITER_LOCK
from rl_logging.bundle.deleting import is_put_aside
from rl_logging.bundle.manifest import MANIFEST
from rl_logging.locks import Lock

UNMADE: Final = "holds no run: its program ended before it had made one, or is just at it"
"""What is said of such a directory."""

BEING_MADE: Final = "it is just being made"

_BEFORE_THE_MANIFEST: Final = re.compile(r"writer\.(lock|json|lease)|\.{1,2}(writer\.(json|lease)|run\.json)\..+")


def is_unmade(path: Path) -> bool:
    """Whether `path` is a directory with nothing in it but what is there before a run's manifest is."""
    names = _names(path)
    return names is not None and all(map(_BEFORE_THE_MANIFEST.fullmatch, names))


def is_being_made(path: Path) -> bool:
    """Whether a process is making a run in `path`.

    Raises:
        OSError: That cannot be known from here.
    """
    if not (path / WRITER_LOCK).exists():
        return False
    lock = Lock(path / WRITER_LOCK)
    if not lock.acquire():
        return True
    lock.release()
    return False


def find_unmade(folder: Path) -> Iterator[Path]:
    """Yields the directories directly below `folder`, or `folder` itself, in which a run was begun and is not made.

    An empty one is left out: it may be anybody's.
    """
    if _is_begun(folder):
        yield folder
        return
    for child in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not (child / MANIFEST).is_file() and _is_begun(child):
            yield child


def remove_unmade(path: Path) -> str | None:
    """Deletes such a directory; returns why it stayed, None where it is gone.

    Raises:
        OSError: It cannot be deleted.
    """
    lock = Lock(path / WRITER_LOCK)
    if not lock.acquire():
        return BEING_MADE
    try:
        if not is_unmade(path):
            return "a run was made there a moment ago"
        shutil.rmtree(path)  # under the lock: whoever waits for that finds it gone, and not taken
    finally:
        lock.release()
    return None


def _is_begun(path: Path) -> bool:
    return is_unmade(path) and bool(_names(path)) and not is_put_aside(path)


def _names(path: Path) -> list[str] | None:
    """Returns which files are in the directory `path`; None where it is none, or holds anything else."""
    try:
        with os.scandir(path) as found:
            entries = list(found)
    except OSError:
        return None
    if path.is_symlink() or not all(entry.is_file(follow_symlinks=False) for entry in entries):
        return None
    return [entry.name for entry in entries]
