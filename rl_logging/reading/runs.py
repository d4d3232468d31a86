"""Finding run directories, and reading their records."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from rl_logging.bundle import Bundle, BundleError, find, superseded
from rl_logging.journal import JournalReader
from rl_logging.records import Envelope, Record, decode

BATCH: Final = 4096

Where = str | os.PathLike[str]
"""A run directory, a folder of them, or a pattern such as ``rl_runs/ppo-*``."""


def find_runs(where: Where | Iterable[Where]) -> list[Bundle]:
    """Returns the run directories that are named, in the order of their creation.

    Args:
        where: One or several of a run directory, a folder of them, and a glob pattern for either.

    Raises:
        BundleError: A name or pattern leads to none, or to one that is damaged or a newer version's.
    """
    several = [where] if isinstance(where, (str, os.PathLike)) else list(where)
    found: dict[Path, Bundle] = {}
    for one in several:
        folders = _matches(os.fspath(one))
        inside = [Bundle(path) for folder in folders for path in find(folder)]
        if not inside:
            raise BundleError(f"{os.fspath(one)} is not a run directory, and holds none")
        found |= {bundle.path.resolve(): bundle for bundle in inside}
    return sorted(found.values(), key=lambda bundle: (bundle.manifest.created, bundle.path))


def records(bundle: Bundle, kinds: tuple[type[Record], ...] = ()) -> Iterator[Record]:
    """Yields a run's records in the order they were logged, as far as the journal has them now.

    Those are left out that the run went back behind (``rl_logging.resume_step``).

    Args:
        bundle: The run.
        kinds: Which kinds; without any, all. The others are not decoded.
    """
    wanted = {kind.kind for kind in kinds}
    is_superseded = superseded(bundle)
    reader = JournalReader(bundle.journal)
    while envelopes := reader.read(BATCH):
        yield from decoded(
            envelope
            for envelope in envelopes
            if not ((wanted and envelope.kind not in wanted) or is_superseded(envelope))
        )


def decoded(envelopes: Iterable[Envelope]) -> Iterator[Record]:
    """Yields the records; of one that is damaged delivery tells, a reader shows the rest."""
    for envelope in envelopes:
        try:
            yield decode(envelope)
        except (msgspec.DecodeError, RecursionError, TypeError):
            continue


def _matches(where: str) -> list[Path]:
    where = os.path.expanduser(where)
    if os.path.lexists(where) or not glob.has_magic(where):
        return [Path(where)]
    return [Path(path) for path in sorted(glob.glob(where))]
