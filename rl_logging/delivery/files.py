"""Seeing to what a record points to, before a sink is given it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from rl_logging.bundle import Bundle, BundleError
from rl_logging.bundle.foreign import strange
from rl_logging.media import materialize
from rl_logging.records import Artifact, Environment, Image, Model, Record, Video


def ready(bundle: Bundle, record: Record) -> Record:
    """Returns `record` with everything it points to lying in the run directory, pictures and videos encoded.

    Raises:
        BundleError: A path leads out of the run directory, or is neither a file nor a folder of files.
        MediaError: A picture or video cannot be made of what was dumped.
        FileNotFoundError: What it points to is gone.
    """
    if isinstance(record, (Image, Video)):
        bundle.resolve(record.path)
        made = materialize(bundle.path, record)
        return msgspec.structs.replace(record, path=made.relative_to(bundle.path).as_posix())
    paths: tuple[str | None, ...] = ()
    if isinstance(record, (Model, Artifact)):
        paths = (record.path,)
    elif isinstance(record, Environment):
        paths = (record.path, record.patch)
    for path in paths:
        if path is None:
            continue
        found = bundle.resolve(path)
        if not found.exists():
            raise FileNotFoundError(f"{path} is not in the run directory any more")
        if not found.is_dir() and not found.is_file():
            raise BundleError(f"{path} is no file")
        for one in strange(found, bundle.path.resolve()):
            raise BundleError(f"{one} is no file, or a link that leads out of the run directory")
    return record


def size_of_files(bundle: Bundle, records: Iterable[Record]) -> int:
    """Returns how many bytes of files `records`, made ready, point to; what cannot be seen counts nothing."""
    found = (bundle.path / path for record in records if isinstance(path := getattr(record, "path", None), str))
    return sum(_size(path) for path in found)


def _size(path: Path) -> int:
    try:
        if not path.is_dir():
            return path.stat().st_size
        return sum(os.lstat(Path(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)
    except OSError:
        return 0
