"""The run directory (bundle): what is where in it, and who may write.

A bundle can be moved to another directory or machine; everything in it is found by relative paths, and nothing read
from it can lead out of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from rl_logging.bundle.foreign import read_kept, ways_out
from rl_logging.locks import Lock
from rl_logging.processes import boot_id, started_at
from rl_logging.sinks import Program

FORMAT: Final = 1
MANIFEST: Final = "run.json"
WRITER: Final = "writer.json"
WRITER_LOCK: Final = "writer.lock"
TRIM_LOCK: Final = "trim.lock"
_KEY: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
SILENCE_S: Final = 120.0
LOOKING_S: Final = 2.0


class BundleError(Exception):
    """A directory is not a usable run directory; the message says why."""


class SinkEntry(msgspec.Struct, kw_only=True, frozen=True):
    """A destination the run was configured to reach.

    Attributes:
        name: The sink's name.
        options: Resolved options, secrets replaced by references to environment variables.
        given: The options as the user gave them, secrets likewise.
        destination: Where `options` lead, for a person.
        key: Names this (sink, destination) in file names.
        factory: ``module:callable`` for a sink without packaging, else None.
        live: True for a sink that exists only as an object of the training process.
    """

    name: str
    options: dict[str, Any]
    given: dict[str, Any]
    destination: str
    key: str
    factory: str | None = None
    live: bool = False

    def check(self, file: Path) -> None:
        """Does nothing where `key` can be part of a file name.

        Raises:
            BundleError: It cannot; it was read from `file`.
        """
        if not _KEY.fullmatch(self.key):
            raise BundleError(f"{file} is damaged: a destination's key is {self.key!r}")


class Manifest(msgspec.Struct, kw_only=True, frozen=True):
    """``run.json``: what a run is, without secrets.

    `parent` is the id of the run it belongs below, `parent_dir` the way there from the run directory, where known.
    """

    format: int = FORMAT
    version: str
    id: str
    name: str
    created: float
    program: Program
    host: str
    settings: dict[str, Any]
    project: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    sinks: tuple[SinkEntry, ...] = ()
    parent: str | None = None
    parent_dir: str | None = None


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


class Bundle:
    """A run directory.

    Args:
        path: The directory, which must hold a manifest.

    Raises:
        BundleError: It is none of ours, is damaged, or was written by a newer version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.manifest = self._load()

    @classmethod
    def create(cls, path: Path, manifest: Manifest) -> Bundle:
        """Makes the directory and its manifest.

        Raises:
            OSError: It cannot be made, or is there already.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        ignore = path.parent / ".gitignore"
        if not ignore.exists():
            with contextlib.suppress(FileExistsError), open(ignore, "x", encoding="utf-8") as file:
                file.write("*\n")
        path.mkdir()
        write_atomically(path / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
        return cls(path)

    @property
    def journal(self) -> Path:
        """The journal's folder."""
        return self.path / "journal"

    @property
    def sinks(self) -> Path:
        """The folder of what each destination has."""
        return self.path / "sinks"

    @property
    def delivery_log(self) -> Path:
        """What delivery processes printed."""
        return self.path / "delivery.log"

    def resolve(self, relative: str) -> Path:
        """Returns the absolute path of something in the bundle.

        Raises:
            BundleError: `relative` leads out of it.
        """
        root = self.path.resolve()
        try:
            found = (root / relative).resolve()
            found.exists()
        except (ValueError, RuntimeError, OSError) as error:  # a null byte, a link to itself, a name that is too long
            raise BundleError(f"{relative[:200]!r} is no path in the run directory {self.path}: {error}") from error
        if os.path.isabs(relative) or not found.is_relative_to(root):
            raise BundleError(f"{relative!r} leads out of the run directory {self.path}")
        return found

    def claim(self, first_seq: Callable[[], int] = lambda: 1) -> Claim:
        """Makes this process the one that writes the journal.

        Args:
            first_seq: Says which seq it will write first; asked when nobody else can write any more.

        Raises:
            BundleError: Another process is writing it.
        """
        return Claim(self.path, first_seq)

    def writer(self) -> WriterInfo | None:
        """Returns which process wrote last; None before the first, or where the file is damaged."""
        return _read_writer(self.path)

    def abandoned(self) -> bool:
        """Whether the process that writes is gone.

        Of a process on another machine only its traces are seen: it counts as there while it holds the lock, or has
        written in the last `SILENCE_S` seconds.
        """
        writer = self.writer()
        alive = False if writer is None else writer.alive()
        if alive is not None:
            return not alive
        lock = Lock(self.path / WRITER_LOCK)
        try:
            if not lock.acquire():
                return False
        except OSError:  # a directory that only its owner may write
            return False
        lock.release()
        written = [path.stat().st_mtime for path in self.journal.glob("*.rlj")]
        return time.time() - max(written, default=0.0) > SILENCE_S

    def _load(self) -> Manifest:
        file = self.path / MANIFEST
        for link in ways_out(self.path):
            raise BundleError(f"{link} is no file, or a link that leads out of the run directory")
        try:
            data = read_kept(file)
        except OSError as error:
            raise BundleError(f"{self.path} is not a run directory: {MANIFEST}: {error.strerror}") from error
        try:
            probe = msgspec.json.decode(data)
            version = probe.get("format") if isinstance(probe, dict) else None
            if isinstance(version, int) and version > FORMAT:
                raise BundleError(f"{file} has format {version}: it needs a newer rl_logging than this one")
            manifest = msgspec.json.decode(data, type=Manifest)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BundleError(f"{file} is damaged: {error}") from error
        if not _ID.fullmatch(manifest.id):
            raise BundleError(f"{file} is damaged: the run's id is {manifest.id!r}")
        for entry in manifest.sinks:
            entry.check(file)
        return manifest


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
            writer = _read_writer(path)
            if time.monotonic() > deadline or (writer is not None and writer.alive()):
                whom = f"process {writer.pid} on {writer.host}" if writer else "another process"
                raise BundleError(f"{path} is being written by {whom}")
            time.sleep(0.05)
        try:
            self._begin(_read_writer(path), first_seq())
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

    def forget(self) -> None:
        """Drops a forked child's copy of the descriptor; unlocking it would unlock the parent's."""
        self._lock.forget()


def find(folder: Path) -> Iterator[Path]:
    """Yields the run directories directly below `folder`, or `folder` itself where it is one."""
    if (folder / MANIFEST).is_file():
        yield folder
        return
    for child in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (child / MANIFEST).is_file():
            yield child


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces `path` by `data` so that a reader sees the old or the new whole, never a part, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read_writer(path: Path) -> WriterInfo | None:
    try:
        return msgspec.json.decode(read_kept(path / WRITER), type=WriterInfo)
    except (OSError, msgspec.DecodeError, RecursionError):
        return None
