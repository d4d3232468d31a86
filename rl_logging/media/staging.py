"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def staging_path(target: Path) -> Path:
    """Returns a path beside `target` that nobody else uses, for the file while it is being made."""
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Gives a path to write to; it becomes `target` when the block ends, and is removed when the block raises.

    Raises:
        OSError: It cannot be renamed.
    """
    staging = staging_path(target)
    try:
        yield staging
        commit(staging, target)
    except BaseException:
        discard(staging)
        raise


def commit(staging: Path, target: Path) -> None:
    """Renames a finished file; another process that made the same file first is as good."""
    try:
        os.replace(staging, target)
    except PermissionError:  # Windows, where a file that someone reads cannot be replaced
        if not target.exists():
            raise
        discard(staging)


def discard(path: Path) -> None:
    """Removes a file that is not wanted; where it cannot be removed it does no harm."""
    with contextlib.suppress(OSError):
        os.unlink(path)
