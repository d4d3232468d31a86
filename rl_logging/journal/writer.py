"""Writing the journal: one append in the caller's thread."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import zlib
from pathlib import Path
from typing import Final

from rl_logging.journal.reader import last_seq
from rl_logging.journal.segment import (
    FRAME,
    LENGTH,
    MAX_PAYLOAD_BYTES,
    SEGMENT_BYTES,
    JournalError,
    SegmentHeader,
    make_header,
    number_of,
    segments,
)
from rl_logging.journal.trimmed import read_trimmed
from rl_logging.records import encode

log = logging.getLogger("rl_logging.journal")

RETRY_AFTER_S: Final = 1.0


class JournalWriter:
    """Appends records; safe from several threads and from a signal handler that interrupts an append.

    Args:
        folder: The journal's folder, created if missing.
        run: The run's id, written into each segment.
        floor: Records get a `seq` above this and above all that `folder` holds already.
        segment_bytes: Size at which a new segment is begun.
        sync: Whether a finished segment is fsynced here, because no delivery does it.
    """

    def __init__(
        self, folder: Path, run: str, *, floor: int = 0, segment_bytes: int = SEGMENT_BYTES, sync: bool = False
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._run = run
        self._segment_bytes = segment_bytes
        self._sync = sync
        self._lock = threading.RLock()
        self._writing = False
        self._sealed = False
        self._disowned = ""
        self._deferred: list[tuple[str, int | None, object, float]] = []
        self._fd = -1
        self._size = 0
        self._segment: int | None = None
        self._retry_at = 0.0
        existing = segments(folder)
        trimmed = read_trimmed(folder)
        self._number = max(number_of(existing[-1]) if existing else 0, trimmed.segment if trimmed else 0)
        self._seq = max(floor, last_seq(folder))
        self._time_offset_s = time.time() - time.monotonic()
        self.lost = 0

    @property
    def seq(self) -> int:
        """The last accepted record's seq; 0 before the first."""
        return self._seq

    @property
    def interrupted(self) -> bool:
        """Whether this thread is in the middle of an append, which the caller (a signal handler) has interrupted."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            return self._writing
        finally:
            self._lock.release()

    def now(self) -> float:
        """Returns the time a record of this moment has: the wall clock's at the start, and never back from there."""
        return time.monotonic() + self._time_offset_s

    def append(self, kind: str, step: int | None, body: object, time_s: float | None = None) -> int | None:
        """Writes one record and returns its seq; None once the journal is sealed.

        A call that interrupts another one of the same thread (a signal handler's) is written right after that one,
        and returns the seq it will then have at the earliest.

        Args:
            kind: As in `rl_logging.records`, as are the next two.
            step: The run's step.
            body: What the kind says.
            time_s: When it was logged, an earlier `now`; None: now.

        Raises:
            JournalError: The record is too large, or the disk took only part of it; it is not accepted, and counted
                in `lost`.
        """
        with self._lock:
            if self._sealed:
                if self._disowned:
                    self.lost += 1
                    raise JournalError(self._disowned)
                return None
            if time_s is None:
                time_s = time.monotonic() + self._time_offset_s
            return self._append_or_defer(kind, step, body, time_s)

    def seal(self, kind: str, body: object) -> int | None:
        """Writes the last record, after which none is accepted; see `append`."""
        with self._lock:
            if self._sealed:
                return None
            self._sealed = True
            self._retry_at = 0.0  # there is no later: a disk that was full a moment ago is tried at once
            return self._append_or_defer(kind, None, body, self.now())

    def disown(self, why: str) -> None:
        """Writes nothing more: another process has taken over; `append` raises from now on, saying `why`."""
        with self._lock:
            if not self._sealed:
                self._sealed, self._disowned = True, why
                self.close()

    def close(self) -> None:
        """Lets go of the segment; a later `append` starts a new one."""
        with self._lock:
            if not self._writing:
                self._release()

    def forget(self) -> None:
        """Drops the descriptor and the lock in a forked child, leaving the parent's untouched."""
        self._lock = threading.RLock()
        self._writing = False
        self._deferred.clear()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _append_or_defer(self, kind: str, step: int | None, body: object, time_s: float) -> int:
        if self._writing:
            self._deferred.append((kind, step, body, time_s))
            return self._seq + 1 + len(self._deferred)
        try:
            self._writing = True
            return self._append(kind, step, body, time_s)
        finally:
            try:
                if self._deferred:
                    self._append_deferred()
            finally:
                self._writing = False

    def _append_deferred(self) -> None:
        while self._deferred:
            kind, step, body, time_s = self._deferred.pop(0)
            try:
                self._append(kind, step, body, time_s)
            except JournalError as error:  # its caller has long returned
                log.warning("a record that interrupted another one was not kept: %s", error)
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                self.lost += 1
                log.warning("a %s record that interrupted another one was not kept: %s", kind, error)

    def _append(self, kind: str, step: int | None, body: object, time_s: float) -> int:
        seq = self._seq + 1
        payload = encode(seq, time_s, step, kind, body)
        size = len(payload)
        if size > MAX_PAYLOAD_BYTES:
            self.lost += 1
            raise JournalError(f"a {kind} record of {size:,} bytes is over the limit of {MAX_PAYLOAD_BYTES:,}")
        length = LENGTH.pack(size)
        data = FRAME.pack(size, zlib.crc32(payload, zlib.crc32(length))) + payload
        if self._fd < 0 or self._size >= self._segment_bytes:
            self._rotate(seq)
        problem = self._write(data, seq)
        if problem is not None:
            # What stands in the segment now may be part of a frame: only a new segment can go on after it.
            self._release()
            self._rotate(seq)
            problem = self._write(data, seq)
            if problem is not None:
                self._release()
                self._retry_at = time.monotonic() + RETRY_AFTER_S
                self.lost += 1
                raise JournalError(problem)
        return seq

    def _write(self, data: bytes, seq: int) -> str | None:
        """Writes a frame and counts it; returns what went wrong."""
        before = self._size
        try:
            written = os.write(self._fd, data)
            if written != len(data):
                return f"the journal in {self._folder} took {written} of {len(data)} bytes: is the disk full?"
            self._size, self._seq = before + written, seq
        except OSError as error:
            return f"the journal in {self._folder} cannot be written: {error.strerror or error}"
        except BaseException:
            # Ctrl-C, perhaps just behind the write: what the file has decides whether the record was accepted.
            self._take_stock(before, before + len(data), seq)
            raise
        return None

    def _take_stock(self, before: int, after: int, seq: int) -> None:
        try:
            size = os.fstat(self._fd).st_size
        except OSError:
            size = -1
        if size == after:
            self._size, self._seq = after, seq
        elif size != before:
            self._release()

    def _rotate(self, first_seq: int) -> None:
        if time.monotonic() < self._retry_at:
            self.lost += 1
            raise JournalError(f"the journal in {self._folder} could not be written a moment ago")
        self._release()
        follows = None if self._segment is None else (self._segment, self._size)
        data = make_header(SegmentHeader(self._run, first_seq, follows))
        self._number += 1
        path = self._folder / f"{self._number:08d}.rlj"
        fd = -1
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, "the disk took only part of a segment's header")
        except OSError as error:
            if fd >= 0:
                os.close(fd)
                path.unlink(missing_ok=True)
            self._retry_at = time.monotonic() + RETRY_AFTER_S
            self.lost += 1
            raise JournalError(f"no journal segment can be made in {self._folder}: {error.strerror}") from error
        self._fd = fd
        self._segment, self._size = self._number, len(data)

    def _release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                if self._sync:
                    os.fsync(fd)
                os.close(fd)
            except OSError as error:  # the program may have closed all descriptors it does not know
                log.warning("a journal segment in %s could not be closed: %s", self._folder, error)
