"""Who writes a run directory's journal: one process at a time, which says so in ``writer.json``."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from rl_logging.bundle.manifest import BundleError
from rl_logging.bundle.replacing import write_atomically
from rl_logging.kept import read_kept
from rl_logging.locks import Lock
from rl_logging.processes import boot_id, started_at

WRITER: Final = "writer.json"
WRITER_LOCK: Final = "writer.lock"
LOOKING_S: Final = 2.0


class WriterInfo(msgspec.Struct, kw_only=True, frozen=True):
    """Which process writes a bundle's journal; `released` once it has ended the run, whose last seq is then told.

    A program that goes on with a run is its next `generation`, whose records begin at `first_seq`.
    """

    host: str
    boot_id: str
    pid: int
    started: float
    generation: int
    first_seq: int = 1
    released: bool = False
    last_seq: int | None = None

    def alive(self) -> bool | None:
        """Whether that process still writes; None where another machine would have to be asked."""
        if self.released:
            return False
        if self.host != socket.gethostname():
            return None
        if self.boot_id != boot_id():
            return False
        return started_at(self.pid) == self.started


class Claim:
    """The right to write a bundle's journal, held until `release` or the process's end.

    A forked child never counts as the holder.
    """

    def __init__(self, path: Path, first_seq: Callable[[], int]) -> None:
        self._path = path
        self._lock = Lock(path / WRITER_LOCK)
        # Who only looks whether somebody writes has the lock for a moment too.
        deadline = time.monotonic() + LOOKING_S
        while not self._lock.acquire():
            writer = read_writer(path)
            if time.monotonic() > deadline or (writer is not None and writer.alive()):
                whom = f"process {writer.pid} on {writer.host}" if writer else "another process"
                raise BundleError(f"{path} is being written by {whom}")
            time.sleep(0.05)
        try:
            self._begin(read_writer(path), first_seq())
        except BaseException:
            self._lock.release()
            raise

    def _begin(self, previous: WriterInfo | None, first_seq: int) -> None:
        pid = os.getpid()
        self._previous = previous
        self.info = WriterInfo(
            host=socket.gethostname(),
            boot_id=boot_id(),
            pid=pid,
            started=started_at(pid) or 0.0,
            generation=previous.generation + 1 if previous else 1,
            first_seq=first_seq,
        )
        write_atomically(self._path / WRITER, msgspec.json.encode(self.info))

    def release(self, last_seq: int) -> None:
        """Says that the run is over at `last_seq`, and lets another process write."""
        info = msgspec.structs.replace(self.info, released=True, last_seq=last_seq)
        if self._lock.lost:  # the file says who has taken over
            self._lock.release()
            return
        with contextlib.suppress(OSError):  # a full disk: the process's end says the same, later
            write_atomically(self._path / WRITER, msgspec.json.encode(info))
        self._lock.release()

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Has `callback` called, from some other thread, when another process has taken over."""
        self._lock.on_lost = callback

    def abandon(self) -> None:
        """Lets another process write: this one could not begin."""
        # As if it had never been: whoever looks would see a writer that is there.
        with contextlib.suppress(OSError):
            if self._previous is None:
                (self._path / WRITER).unlink(missing_ok=True)
            else:
                write_atomically(self._path / WRITER, msgspec.json.encode(self._previous))
        self._lock.release()

    def discard(self) -> None:
        """Deletes the directory, in which no run could be made, and lets another process make one."""
        shutil.rmtree(self._path, ignore_errors=True)  # first: nobody else's is deleted while it is ours
        self._lock.release()

    def forget(self) -> None:
        """Drops a forked child's copy of the descriptor; unlocking it would unlock the parent's."""
        self._lock.forget()


def read_writer(path: Path) -> WriterInfo | None:
    """Returns which process wrote the run directory `path` last; None before the first, or where that is damaged."""
    try:
        return msgspec.json.decode(read_kept(path / WRITER), type=WriterInfo)
    except (OSError, msgspec.DecodeError, RecursionError):
        return None
