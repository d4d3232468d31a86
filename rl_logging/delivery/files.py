"""Seeing to what a record points to, before a sink is given it."""

from __future__ import annotations

import msgspec

from rl_logging.bundle import Bundle
from rl_logging.media import materialize
from rl_logging.records import Artifact, Environment, Image, Model, Record, Video


def ready(bundle: Bundle, record: Record) -> Record:
    """Returns `record` with everything it points to lying in the run directory, pictures and videos encoded.

    Raises:
        BundleError: A path leads out of the run directory.
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
        if path is not None and not bundle.resolve(path).exists():
            raise FileNotFoundError(f"{path} is not in the run directory any more")
    return record
