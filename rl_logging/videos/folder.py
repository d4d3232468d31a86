"""The videos in a folder that somebody else writes to: which of them are new, and whole."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from rl_logging.media.whole import is_whole

SUFFIXES: Final = frozenset({".mp4", ".gif", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".ogv", ".mpg", ".mpeg", ".flv"})

_CHUNK_BYTES: Final = 1 << 20
_COUNT: Final = re.compile(
    r"(?:^|[-_. ])(?:(?:episode|ep|step|iteration|iter|epoch)[-_. ]?)?\d+(?:-to-(?:step-)?\d+)?$", re.IGNORECASE
)


class Stamp(NamedTuple):
    """What changes with a file's content."""

    modified_ns: int
    bytes: int
    inode: int


Listing = Mapping[str, Stamp]


class VideoFolder:
    """Tells each video of a folder once, when it is whole; one that is overwritten later is another.

    What is there at the beginning is not told. Subfolders are not looked into. The folder may come later.

    Args:
        path: The folder.
        name: What its videos are called; None: by their files' names.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = name
        self._known = dict(self.listing())
        self._digests: dict[str, bytes] = {}
        self._unsettled: dict[str, Stamp] = {}

    @property
    def unsettled(self) -> list[str]:
        """The files that the last look found new, and could not yet tell to be whole."""
        return sorted(self._unsettled)

    def listing(self) -> Listing:
        """Returns the folder's video files as they are now; none where there is no folder."""
        found = {}
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.name.startswith("."):
                        try:
                            stat = entry.stat()
                        except FileNotFoundError:
                            continue
                        found[entry.name] = Stamp(stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except (FileNotFoundError, NotADirectoryError):
            pass
        return found

    def look(self, before: Listing | None = None) -> list[Path]:
        """Returns the videos that are new and whole, oldest first.

        Whole is one that has its end and either did not change between the last look and this one or was written by a
        call that has returned.

        Args:
            before: The listing from before that call.

        Raises:
            OSError: The folder cannot be read.
        """
        now = self.listing()
        unsettled = {}
        found: list[tuple[int, Path]] = []
        for file, stamp in now.items():
            if self._known.get(file) == stamp:
                continue
            closed = before is not None and before.get(file) != stamp
            path = self.path / file
            digest = _digest_if_whole(path) if closed or self._unsettled.get(file) == stamp else None
            if digest is None:
                unsettled[file] = stamp
                continue
            self._known[file] = stamp
            if self._digests.get(file) != digest:
                self._digests[file] = digest
                found.append((stamp.modified_ns, path))
        self._unsettled = unsettled
        return [path for _, path in sorted(found)]

    def name_of(self, path: Path) -> str:
        """Returns what a video is called: those that differ in a count alone are one series."""
        return self.name or f"videos/{_COUNT.sub('', path.stem) or self.path.name}"


def _digest_if_whole(path: Path) -> bytes | None:
    try:
        if not is_whole(path):
            return None
        digest = hashlib.blake2b(digest_size=16)
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.digest()
    except OSError:  # gone again, or (on Windows) still its writer's alone
        return None
