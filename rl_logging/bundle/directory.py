"""The run directory (bundle): what is where in it.

A bundle can be moved to another directory or machine; everything in it is found by relative paths, and nothing read
from it can lead out of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from rl_logging.bundle.claim import WRITER_LOCK, Claim, WriterInfo, read_writer
from rl_logging.bundle.deleting import is_put_aside
from rl_logging.bundle.foreign import ways_out
from rl_logging.bundle.manifest import MANIFEST, BundleError, Manifest, read_manifest
from rl_logging.bundle.replacing import write_atomically
from rl_logging.bundle.unmade import is_unmade, remove_unmade
from rl_logging.locks import Lock

TRIM_LOCK: Final = "trim.lock"
SILENCE_S: Final = 120.0


class Bundle:
    """A run directory.

    Args:
        path: The directory, which must hold a manifest.

    Raises:
        BundleError: It is none of ours, is damaged, or was written by a newer version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        for link in ways_out(self.path):
            raise BundleError(f"{link} is no file, or a link that leads out of the run directory")
        self.manifest = read_manifest(self.path)

    @classmethod
    def create(cls, path: Path, manifest: Manifest) -> tuple[Bundle, Claim]:
        """Makes the directory and its manifest, by which others find it: with this process as its writer already.

        One in which another process was killed at that is taken over; of several that try, one gets it.

        Raises:
            OSError: It cannot be made, or is there already.
            BundleError: Another process is making it, or writes it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        ignore = path.parent / ".gitignore"
        if not ignore.exists():
            with contextlib.suppress(FileExistsError), open(ignore, "x", encoding="utf-8") as file:
                file.write("*\n")
        try:
            path.mkdir()
        except FileExistsError:
            if not is_unmade(path):
                raise
        try:
            claim = Claim(path, lambda: 1)
        except OSError:  # such as a full disk
            with contextlib.suppress(OSError):
                remove_unmade(path)
            raise
        if not is_unmade(path):  # who had claimed it a moment before has made it, and ended its run
            claim.abandon()
            raise FileExistsError(errno.EEXIST, "it is there already", str(path))
        try:
            write_atomically(path / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
            return cls(path), claim
        except BaseException:
            claim.discard()
            raise

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
        return read_writer(self.path)

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


def find(folder: Path) -> Iterator[Path]:
    """Yields the run directories directly below `folder`, or `folder` itself where it is one."""
    if _is_run(folder):
        yield folder
        return
    for child in sorted(folder.iterdir()) if folder.is_dir() else ():
        if _is_run(child):
            yield child


def _is_run(path: Path) -> bool:
    return (path / MANIFEST).is_file() and not is_put_aside(path)
