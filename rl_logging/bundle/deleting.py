"""Deleting a run directory, or a saved model in one: put aside first, in one step, so that nobody finds one half gone.

What a deletion that was cut short has left is hidden, and no run or model any more.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".rl_logging-deleted"


def put_aside(path: Path) -> Path:
    """Renames the directory `path`, in which nobody finds anything from then on; returns what it is called now.

    Raises:
        OSError: It cannot be renamed.
    """
    doomed = path.with_name(f".{path.name}{_SUFFIX}")
    delete(doomed)  # an earlier one's of that name
    return path.rename(doomed)


def delete(doomed: Path) -> None:
    """Deletes what was put aside; another process may be at it too, or be done.

    Raises:
        OSError: It cannot be deleted.
    """
    while doomed.exists():
        try:
            shutil.rmtree(doomed)
        except FileNotFoundError:  # the other one was faster at a file
            continue


def is_put_aside(path: Path) -> bool:
    """Whether `path` is a run directory that is being deleted, or was when its process ended."""
    return path.name.startswith(".") and path.name.endswith(_SUFFIX) and path.is_dir() and not path.is_symlink()


def find_put_aside(folder: Path) -> Iterator[Path]:
    """Yields such directories directly below `folder`, or `folder` itself."""
    if is_put_aside(folder):
        yield folder
        return
    for child in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_put_aside(child):
            yield child
