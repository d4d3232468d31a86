"""The videos in a folder that somebody else writes to: which of them are new, and whole."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from rl_logging.media.whole import is_whole

SUFFIXES: Final = frozenset({".mp4", ".gif", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".ogv", ".mpg", ".mpeg", ".flv"})

_CHUNK_BYTES: Final = 1 << 20
_SMALL_BYTES: Final = 16 << 20
_COUNT: Final = re.compile(
    r"(?:^|[-_. ])(?:(?:episode|ep|step|iteration|iter|epoch)[-_. ]?)?\d+(?:-to-(?:step-)?\d+)?$", re.IGNORECASE
)


class Stamp(NamedTuple):
    """What changes with a file's content."""

    modified_ns: int
    bytes: int
    inode: int


Listing = Mapping[str, Stamp]


class _Claim:
    """A file that one thread reads and logs; the others leave it alone."""

    def __init__(self, stamp: Stamp, closed: bool) -> None:
        self.stamp = stamp
        self.closed = closed
        self.thread = threading.get_ident()


class VideoFolder:
    """Tells each video of a folder once, when it is whole; one that is overwritten later is another.

    What is there at the beginning is not told. Subfolders are not looked into. The folder may come later. Several
    threads may look: none waits for a file that another one reads.

    Args:
        path: The folder.
        name: What its videos are called; None: by their files' names.
        prefix: What stands before the names that follow from the files'.
    """

    def __init__(self, path: Path, name: str | None = None, prefix: str = "") -> None:
        self.path = path
        self._prefix = prefix
        self.name = name
        self._known = dict(self.listing())
        self._digests: dict[str, bytes] = {}
        self._unsettled: dict[str, Stamp] = {}
        self._claims: dict[str, _Claim] = {}
        # For what is known alone, never while a file is read. Reentrant: a signal handler may look, too.
        self._lock = threading.RLock()

    @property
    def unsettled(self) -> list[str]:
        """The files that the last look found new, and could not yet tell to be whole."""
        return sorted(self._unsettled)

    @property
    def busy(self) -> bool:
        """Whether another thread is reading or logging a file."""
        me = threading.get_ident()
        return any(claim.thread != me for claim in list(self._claims.values()))

    def listing(self) -> Listing:
        """Returns the folder's video files as they are now; none where there is no folder.

        What only has a video's name (a pipe, a device) would block who reads it, and is none.
        """
        found = {}
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.name.startswith("."):
                        try:
                            status = entry.stat()
                        except FileNotFoundError:
                            continue
                        if stat.S_ISREG(status.st_mode):
                            found[entry.name] = Stamp(status.st_mtime_ns, status.st_size, status.st_ino)
        except (FileNotFoundError, NotADirectoryError):
            pass
        return found

    def look(self, before: Listing | None = None) -> list[Path]:
        """Returns the videos that are new and whole, oldest first; see `new`."""
        return list(self.new(before))

    def new(
        self, before: Listing | None = None, *, compare: bool = True, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[Path]:
        """Yields the videos that are new and whole, oldest first. One counts as told when the next is asked for.

        Whole is one that has its end and either did not change between the last look and this one or was written by a
        call that has returned.

        Args:
            before: The listing from before that call.
            compare: Whether large ones, too, are read once more to tell one that is written again with the same
                content. That takes about a second a GB.
            stopped: Asked while files are read; what is left then is left to the next look.

        Raises:
            OSError: The folder cannot be read.
        """
        claims = self._claim(before)
        try:
            for file, claim in sorted(claims.items(), key=lambda item: (item[1].stamp.modified_ns, item[0])):
                path = self.path / file
                known = self._digests.get(file)
                whole, digest = False, None
                try:
                    whole = not stopped() and is_whole(path)
                    small = claim.stamp.bytes <= _SMALL_BYTES
                    if whole and (compare or small or (known is not None and not claim.closed)):
                        digest = _digest(path, stopped)
                        whole = digest is not None
                except OSError:  # gone again, or (on Windows) still its writer's alone
                    whole = False
                if not whole or self._claims.get(file) is not claim:
                    continue
                if digest is None or digest != known:
                    yield path
                self._settle(file, claim, digest)
        finally:
            self._release(claims)

    def _claim(self, before: Listing | None) -> dict[str, _Claim]:
        """Returns the files that this thread is to read now."""
        claims: dict[str, _Claim] = {}
        with self._lock:
            unsettled = {}
            for file, stamp in self.listing().items():
                if self._known.get(file) == stamp:
                    continue
                other = self._claims.get(file)
                if other is not None and other.stamp == stamp and other.thread != threading.get_ident():
                    continue
                closed = before is not None and before.get(file) != stamp
                if closed or self._unsettled.get(file) == stamp:
                    self._claims[file] = claims[file] = _Claim(stamp, closed)
                else:
                    unsettled[file] = stamp
            self._unsettled = unsettled
        return claims

    def _settle(self, file: str, claim: _Claim, digest: bytes | None) -> None:
        with self._lock:
            if self._claims.get(file) is claim:  # else it was overwritten meanwhile, and is another
                del self._claims[file]
                self._known[file] = claim.stamp
                self._digests.pop(file, None)
                if digest is not None:
                    self._digests[file] = digest

    def _release(self, claims: Mapping[str, _Claim]) -> None:
        with self._lock:
            for file, claim in claims.items():
                if self._claims.get(file) is claim:
                    del self._claims[file]
                    self._unsettled[file] = claim.stamp

    def name_of(self, path: Path) -> str:
        """Returns what a video is called: those that differ in a count alone are one series."""
        return self.name or f"{self._prefix}videos/{_COUNT.sub('', path.stem) or self.path.name}"


def _digest(path: Path, stopped: Callable[[], bool]) -> bytes | None:
    """Returns the digest of a file's content; None where it was stopped."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            if stopped():
                return None
            digest.update(chunk)
    return digest.digest()
