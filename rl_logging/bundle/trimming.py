"""Deleting what every destination has of a journal, where ``rl_logging.keep`` says so.

Whole segments only, oldest first, and the pictures and videos that their records point to. ``journal/trimmed.json``
says before what is deleted then, so that a writer who goes on starts above it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from rl_logging.bundle.claim import WRITER_LOCK
from rl_logging.bundle.destination import DestinationFile, DestinationState, destinations
from rl_logging.bundle.directory import TRIM_LOCK, Bundle
from rl_logging.bundle.manifest import BundleError, SinkEntry
from rl_logging.bundle.replacing import write_atomically
from rl_logging.bundle.rewinds import highest_deleted, superseded
from rl_logging.journal import JournalReader, Trimmed, number_of, read_header, read_trimmed, segments
from rl_logging.journal.trimmed import TRIMMED
from rl_logging.locks import Lock
from rl_logging.records import Image, Video, decode

SEGMENT_BYTES: Final = 8 << 20
"""How large a segment gets where segments are deleted: that much, and what is undelivered, stays."""


def trims(bundle: Bundle) -> bool:
    """Whether the run's settings ask for it; never where it has no destination."""
    return bundle.manifest.settings.get("keep") == "undelivered" and bool(destinations(bundle))


def refers(entry: SinkEntry) -> bool:
    """Whether what the store has refers to the files here, so that it needs them for longer.

    An offline run of W&B does: its files are read when it is synced, by whomever, later.
    """
    return entry.options.get("mode") == "offline"


def trim(bundle: Bundle, *, over: bool = False) -> int:
    """Deletes the segments that every destination has confirmed; returns how many.

    A destination that the user has given up counts for nothing. The last segment stays, unless the run is over and was
    ended in every store.

    Args:
        bundle: The run.
        over: Whether the last one may go too.

    Raises:
        BundleError: The run's directory is damaged.
        JournalError: The journal needs a newer version.
        OSError: They cannot be deleted.
    """
    if not trims(bundle):
        return 0
    found = segments(bundle.journal)
    if not found or (len(found) == 1 and not over):
        return 0
    lock = Lock(bundle.path / TRIM_LOCK)
    if not lock.acquire():
        return 0  # another destination's delivery does it
    try:
        files = [DestinationFile(bundle, entry) for entry in destinations(bundle)]
        kept = [state for state in (file.load() for file in files) if not state.forgotten]
        if not kept or any(state.damaged for state in kept):
            return 0
        settled = min(state.confirmed for state in kept)
        doomed, last_seq = _settled(found, settled)
        if over and len(doomed) == len(found) - 1:
            with _ended(bundle, kept) as end_seq:
                if end_seq is not None:
                    return _delete(bundle, found, end_seq, files)
        return _delete(bundle, doomed, last_seq, files)
    finally:
        lock.release()


def _settled(found: Sequence[Path], settled: int) -> tuple[list[Path], int]:
    """Returns the segments but the last that hold nothing above `settled`, and the last seq in them."""
    doomed: list[Path] = []
    last_seq = 0
    for path, following in itertools.pairwise(found):
        header = read_header(following)
        if header is None or header[0].first_seq - 1 > settled:
            break
        doomed.append(path)
        last_seq = header[0].first_seq - 1
    return doomed, last_seq


@contextlib.contextmanager
def _ended(bundle: Bundle, states: Iterable[DestinationState]) -> Iterator[int | None]:
    """Gives the last seq of a run that is over and ended in every store, with which nobody can go on meanwhile."""
    writer = bundle.writer()
    last_seq = None if writer is None or not writer.released else writer.last_seq
    lock = Lock(bundle.path / WRITER_LOCK)
    ended = last_seq is not None and all(state.closed is not None and state.confirmed >= last_seq for state in states)
    if not ended or not lock.acquire():
        yield None
    else:
        try:
            yield last_seq if bundle.writer() == writer else None  # somebody may have gone on with it a moment ago
        finally:
            lock.release()


def _delete(bundle: Bundle, doomed: Sequence[Path], last_seq: int, files: Sequence[DestinationFile]) -> int:
    if not doomed:
        return 0
    before = read_trimmed(bundle.journal)
    step, media = _contents(bundle, doomed, last_seq)
    note = Trimmed(
        seq=max(last_seq, before.seq if before else 0),
        segment=max(number_of(doomed[-1]), before.segment if before else 0),
        step=max(step, highest_deleted(bundle, before)),
    )
    write_atomically(bundle.journal / TRIMMED, msgspec.json.encode(note))
    if not any(refers(entry) for entry in destinations(bundle)):
        aside: set[int] = set().union(*(file.seqs_set_aside() for file in files))  # the only copy of these is here
        for seq, relative in media:
            if seq not in aside:
                _unlink(bundle, relative)
    for path in doomed:
        path.unlink(missing_ok=True)
    return len(doomed)


def _contents(bundle: Bundle, doomed: Sequence[Path], last_seq: int) -> tuple[int, list[tuple[int, str]]]:
    """Returns the highest step that counts in some segments, and the seqs and paths of their pictures and videos."""
    header = read_header(doomed[0])
    reader = JournalReader(bundle.journal, after=header[0].first_seq - 1 if header else 0)
    is_superseded = superseded(bundle)
    step = -1
    media: list[tuple[int, str]] = []
    while batch := reader.read(4096, final=True):
        for envelope in batch:
            if envelope.seq > last_seq:
                return step, media
            if envelope.step is not None and not is_superseded(envelope):
                step = max(step, envelope.step)
            if envelope.kind in (Image.kind, Video.kind):
                with contextlib.suppress(msgspec.DecodeError, TypeError):
                    record = decode(envelope)
                    assert isinstance(record, (Image, Video))
                    media.append((envelope.seq, record.path))
    return step, media


def _unlink(bundle: Bundle, relative: str) -> None:
    with contextlib.suppress(BundleError):  # a record from elsewhere may say anything
        path = bundle.resolve(relative)
        for one in (path, path.with_suffix(".gif")):
            if one.is_relative_to(bundle.path.resolve() / "media"):
                with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(one)
