"""Reading the journal, also while it is written, also where it is damaged."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Final

import msgspec

from rl_logging.journal.segment import (
    FRAME,
    MAX_PAYLOAD_BYTES,
    SEGMENT_BYTES,
    Damage,
    number_of,
    read_header,
    resynchronise,
    segments,
)
from rl_logging.journal.trimmed import read_trimmed
from rl_logging.records import Envelope, decode_envelope

CHUNK_BYTES: Final = 128 << 10
"""How much is read at once; about as much, some thousand scalars, is what one call returns at the most."""


class JournalReader:
    """Reads records in order, also while they are being written; remembers where it was.

    Args:
        folder: The journal's folder; it need not exist yet.
        after: Records up to this seq are passed over.

    Attributes:
        damage: Places that were no whole frame; except for what the writer has said was not accepted, and an
            incomplete last frame of the last segment.
        missing: How many seqs were skipped on the way, because a damaged place held them.
        run: The run id that the segments name; None before the first.
    """

    def __init__(self, folder: Path, *, after: int = 0) -> None:
        self._folder = folder
        self._seq = after
        self._path: Path | None = None
        self._offset = 0
        self._taken_bytes = 0
        self._unsynced: set[Path] = set()
        self.damage: list[Damage] = []
        self.missing = 0
        self.run: str | None = None
        self._at_end = False

    @property
    def at_end(self) -> bool:
        """Whether the last `read` has returned all there was."""
        return self._at_end

    @property
    def segment(self) -> str | None:
        """The name of the segment it has come to; None before the first."""
        return None if self._path is None else self._path.name

    def read(self, limit: int = 1000, *, final: bool = False) -> list[Envelope]:
        """Returns up to `limit` further records; an empty list when there are none yet.

        Fewer come where they are large, so that memory does not grow with their size.

        Args:
            limit: The most records to return.
            final: The writer is gone: what is incomplete now stays so.
        """
        found: list[Envelope] = []
        most_bytes = self._taken_bytes + CHUNK_BYTES
        self._at_end = False
        while len(found) < limit and (not found or self._taken_bytes < most_bytes):
            # Which segments there are is asked before the data is read: a frame that is still incomplete after a
            # later segment exists will never be completed.
            following = self._following(final)
            if self._path is None:
                if following is None:
                    self._at_end = True
                    break
                self._enter(following)
                continue
            if self._read_segment(found, limit, final or following is not None):
                continue
            if following is None:
                self._at_end = True
                break
            self._enter(following)
        return found

    def sync(self) -> None:
        """Fsyncs the segments read since the last call, so that a store never has what a power cut takes from us."""
        for path in self._unsynced:
            try:
                fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except FileNotFoundError:
                continue
            try:
                os.fsync(fd)
            except OSError:
                # A read-only file system has nothing to write back; elsewhere the next sync tries again.
                pass
            finally:
                os.close(fd)
        self._unsynced.clear()

    def _following(self, final: bool) -> Path | None:
        present = segments(self._folder)
        if present and not final and read_header(present[-1]) is None:
            present.pop()  # its header is being written now
        if self._path is not None:
            return next((path for path in present if path.name > self._path.name), None)
        # Begin at the last segment that starts at or below what is wanted.
        for path in reversed(present):
            header = read_header(path)
            if header is not None and header[0].first_seq <= self._seq + 1:
                return path
        return present[0] if present else None

    def _enter(self, path: Path) -> None:
        header = read_header(path)
        self._path = path
        if header is not None:
            self.run = header[0].run
            self._offset = header[1]
            return
        try:
            data = _tail(path, 0)
        except FileNotFoundError:
            data = b""
        at = resynchronise(data, 0)
        self._offset = len(data) if at is None else at
        if data:
            self.damage.append(Damage(path.name, 0, "no segment header"))

    def _read_segment(self, found: list[Envelope], limit: int, closed: bool) -> bool:
        """Reads on in the current segment; True where another look may find more."""
        assert self._path is not None
        try:
            with open(self._path, "rb", buffering=0) as file:
                file.seek(self._offset)
                data = file.read(CHUNK_BYTES)
                if len(data) >= FRAME.size:
                    size = FRAME.unpack_from(data)[0]
                    if size <= MAX_PAYLOAD_BYTES and size + FRAME.size > len(data):
                        data += file.read(size + FRAME.size - len(data))
        except FileNotFoundError:
            return False
        at, problem = self._parse(data, found, limit)
        if at:
            self._offset += at
            self._taken_bytes += at
            self._unsynced.add(self._path)
        if at or problem is None:
            return at > 0
        try:
            return self._recover(problem, closed)
        except FileNotFoundError:  # deleted a moment ago, because every destination has it
            return False

    def _parse(self, data: bytes, found: list[Envelope], limit: int) -> tuple[int, str | None]:
        """Takes whole frames off `data`; returns how far it came and what stopped it (None for the limit)."""
        at, end = 0, len(data)
        while len(found) < limit:
            if end - at < FRAME.size:
                return at, "incomplete"
            size, crc = FRAME.unpack_from(data, at)
            if not 0 < size <= MAX_PAYLOAD_BYTES:
                return at, f"a frame of {size:,} bytes"
            start = at + FRAME.size
            if start + size > end:
                return at, "incomplete"
            payload = data[start : start + size]
            if zlib.crc32(payload, zlib.crc32(data[at : at + 4])) != crc:
                return at, "checksum"
            at = start + size
            try:
                envelope = decode_envelope(payload)
            except (msgspec.DecodeError, RecursionError) as error:
                self._report(self._offset + start - FRAME.size, f"not a record: {error}")
                continue
            self._take(envelope, found, self._offset + start - FRAME.size)
        return at, None

    def _take(self, envelope: Envelope, found: list[Envelope], offset: int) -> None:
        if envelope.seq <= self._seq:
            return
        gap = envelope.seq - self._seq - 1
        if gap and (trimmed := read_trimmed(self._folder)) is not None:
            gap = envelope.seq - max(self._seq, trimmed.seq) - 1
        if gap > 0:
            self.missing += gap
            self._report(offset, f"records {envelope.seq - gap} to {envelope.seq - 1} are missing")
        self._seq = envelope.seq
        found.append(envelope)

    def _recover(self, problem: str, closed: bool) -> bool:
        """Looks for a whole frame behind the place at which parsing stopped; True where one was found."""
        assert self._path is not None
        if problem == "incomplete" and not closed:
            return False
        rest = _tail(self._path, self._offset)
        if not rest:
            return False
        if resynchronise(rest[: FRAME.size + _length(rest)], 0) == 0:
            return True  # it has become whole since
        if self._all_accepted_is_read():
            self._offset += len(rest)
            return False
        at = resynchronise(rest, 1)
        if at is not None:
            self._report(self._offset, problem if problem != "incomplete" else "checksum")
            self._offset += at
            return True
        if problem == "incomplete" and not self._later_segment():
            return False  # passed over only once something stands behind it: a writer may be taken for gone that is not
        if closed:
            self._report(self._offset, "torn" if problem == "incomplete" else problem)
            self._offset += len(rest)
        return False

    def _all_accepted_is_read(self) -> bool:
        """Whether the next segment says that what its writer accepted in this one ends here."""
        assert self._path is not None
        following = self._following(True)
        header = None if following is None else read_header(following)
        return header is not None and header[0].follows == (number_of(self._path), self._offset)

    def _later_segment(self) -> bool:
        return self._path is not None and self._following(True) is not None

    def _report(self, offset: int, why: str) -> None:
        assert self._path is not None
        self.damage.append(Damage(self._path.name, offset, why))


def _length(data: bytes) -> int:
    """Returns how long the frame at the start of `data` says it is."""
    return int(FRAME.unpack_from(data)[0]) if len(data) >= FRAME.size else 0


def last_seq(folder: Path) -> int:
    """Returns the highest seq in the journal, or that was deleted from it; 0 for an empty or missing one."""
    for path in reversed(segments(folder)):
        header = read_header(path)
        reader = JournalReader(folder, after=header[0].first_seq - 1 if header else 0)
        last = 0
        while batch := reader.read(4096, final=True):
            last = batch[-1].seq
        if last:
            return last
    trimmed = read_trimmed(folder)
    return 0 if trimmed is None else trimmed.seq


def _tail(path: Path, offset: int) -> bytes:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(offset)
        return file.read(min(max(0, size - offset), SEGMENT_BYTES + 2 * MAX_PAYLOAD_BYTES))
