"""Bringing files home: what is there and right stays, the rest is fetched, and all of it is checked."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from rl_logging.stores import Progress, StoreError

CHECKSUMS: Final = "checksums.json"
"""Lies beside a model's files in a store that keeps no hashes of its own: paths to SHA-256, in hexadecimal."""

_CHUNK_BYTES: Final = 1 << 20


class RemoteFile(msgspec.Struct, frozen=True):
    """A file of a checkpoint.

    Attributes:
        path: Relative to the checkpoint, with ``/``.
        size: Bytes, or None.
        sha256: In hexadecimal, or None.
    """

    path: str
    size: int | None = None
    sha256: str | None = None


def fetch(
    files: Iterable[RemoteFile], get: Callable[[str, Path], None], folder: Path, progress: Progress | None = None
) -> Path:
    """Puts files into `folder`. One that an earlier, broken download has brought whole is not fetched again.

    Args:
        files: Which.
        get: Puts the file of a path where it is told, below `folder`, which is no file yet.
        folder: Where to; it is made.
        progress: Told of the bytes that are there after each file.

    Returns:
        `folder`.

    Raises:
        StoreError: A file is not what was saved, or its path leads out of `folder`.
    """
    wanted = list(files)
    root = folder.resolve()
    sizes = [file.size for file in wanted]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    done = 0
    folder.mkdir(parents=True, exist_ok=True)
    for file in wanted:
        target = (root / file.path).resolve()
        if not target.is_relative_to(root) or target == root:
            raise StoreError(f"a checkpoint's file is called {file.path!r}, which leads out of {folder}")
        # Without a hash or a size nothing tells the file that is there from another.
        told = file.sha256 is not None or file.size is not None
        if not told or not target.is_file() or _problem(target, file) is not None:
            _fetch_one(file, get, target)
        done += target.stat().st_size
        if progress is not None:
            progress(done, total)
    return folder


def checksums(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file below `folder`, by its path there."""
    return {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def read_checksums(file: Path) -> dict[str, str]:
    """Returns what a `CHECKSUMS` file says; nothing where it is no such file, but somebody's own of that name."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    except msgspec.DecodeError:
        return {}


def write_checksums(sums: dict[str, str], file: Path) -> None:
    """Writes a `CHECKSUMS` file."""
    file.write_text(json.dumps(sums, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch_one(file: RemoteFile, get: Callable[[str, Path], None], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        get(file.path, part)
        problem = _problem(part, file)
        if problem is not None:
            raise StoreError(f"{file.path} is not what was saved: {problem}; try again, or look at the store")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _problem(path: Path, file: RemoteFile) -> str | None:
    """Returns why the file `path` is not that one; None where it is, as far as can be told."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"it has {size:,} bytes, not {file.size:,}"
    if file.sha256 is not None and sha256(path) != file.sha256:
        return "its SHA-256 is another"
    return None
