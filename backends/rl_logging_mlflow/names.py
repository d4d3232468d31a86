"""Names as MLflow takes them, and which original each stored name belongs to."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable

from rl_logging.sinks import Ledger

MAX_KEY_LENGTH = 250
MAX_IMAGE_KEY_LENGTH = 120
_HASH_LENGTH = 8

# MLflow on Windows keeps some names as files and takes no colon there.
_ILLEGAL_IN_KEY = re.compile(r"[^\w.\- ]+" if os.name == "nt" else r"[^\w.\- :]+")
_ILLEGAL_IN_IMAGE_KEY = re.compile(r"[^a-zA-Z0-9_.\- ]+")
_ILLEGAL_IN_PATH = re.compile(r"[^\w.\- ]+")
_NEEDLESS = re.compile(r"(?:^|(?<=[ _\-]))\0|\0(?=$|[ _\-.])")


def with_hash(cleaned: str, name: str, limit: int = MAX_KEY_LENGTH) -> str:
    """Returns `cleaned`, shortened to `limit` characters, made unmistakable by a hash of `name`."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return f"{cleaned[: limit - _HASH_LENGTH - 1]}-{digest}"


def clean_key(name: str) -> str:
    """Returns `name` as a key of a metric, param or tag: itself where it is legal.

    What is illegal becomes ``_`` inside a word and vanishes at its edges (``reward (mean)`` is ``reward mean``), empty
    parts of a path vanish, and what is longer than 250 characters ends in a hash.
    """
    return _limited(_clean(name, _ILLEGAL_IN_KEY), name, MAX_KEY_LENGTH)


def clean_image_key(name: str) -> str:
    """Returns `name` as a key of a stepped image: ASCII letters, digits, ``_ - .``, space and slash."""
    plain = name
    if not name.isascii():
        plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return _limited(_clean(plain, _ILLEGAL_IN_IMAGE_KEY), name, MAX_IMAGE_KEY_LENGTH)


def clean_path(path: str) -> str:
    """Returns `path` as one below a run's artifacts, in the characters that a server's URLs and file systems bear."""
    return "/".join(_limited(part, part, MAX_KEY_LENGTH) for part in _clean(path, _ILLEGAL_IN_PATH).split("/"))


def _clean(name: str, illegal: re.Pattern[str]) -> str:
    if name and not illegal.search(name.replace("/", "")) and not _escapes(name):
        return name
    parts = [_clean_part(part, illegal) for part in name.split("/") if part]
    return "/".join(parts) or "_"


def _clean_part(part: str, illegal: re.Pattern[str]) -> str:
    cleaned = _NEEDLESS.sub("", illegal.sub("\0", part)).replace("\0", "_")
    if not cleaned.strip("."):
        return "_"
    return "_" + cleaned.lstrip(".") if cleaned.startswith("..") else cleaned


def _escapes(name: str) -> bool:
    """Tells whether `name`, read as a path, would be another path or leave its folder, which MLflow refuses."""
    return posixpath.normpath(name) != name or name == "." or name.startswith(("/", "..")) or "/.." in name


def _limited(cleaned: str, name: str, limit: int) -> str:
    return cleaned if len(cleaned) <= limit else with_hash(cleaned, name, limit)


class NameTable:
    """Which stored name each name has, the same for the whole life of a run.

    Two names that clean to the same one do not share it: the first to come has it, the other gets a short hash. Among
    names that come together, one that needs no cleaning is first. What was decided is kept by the caller (`renamed`)
    and given back after a restart.

    Args:
        clean: Gives the legal form of a name.
        ledger: Is told of each name that is stored as another.
        renamed: Decisions of an earlier life: stored names by name.
        taken: Names that the store has already.
    """

    def __init__(
        self, clean: Callable[[str], str], ledger: Ledger, renamed: dict[str, str], taken: Iterable[str] = ()
    ) -> None:
        self.renamed = renamed
        self._clean = clean
        self._ledger = ledger
        self._stored: dict[str, str] = dict(renamed)
        self._owners = {stored: name for name, stored in renamed.items()}
        for stored in taken:
            self._owners.setdefault(stored, stored)
        self._told: set[str] = set()

    def add(self, names: Iterable[str]) -> bool:
        """Decides on the stored names of those of `names` that are new; True where a decision must be kept."""
        new = [name for name in names if name not in self._stored]
        before = len(self.renamed)
        for name in sorted(new, key=lambda name: self._clean(name) != name):
            self._decide(name)
        return len(self.renamed) > before

    def __getitem__(self, name: str) -> str:
        """Returns what `name`, once added, is stored as."""
        stored = self._stored[name]
        if stored != name and name not in self._told:
            self._told.add(name)
            self._ledger.renamed(name, stored)
        return stored

    def _decide(self, name: str) -> None:
        if name in self._stored:
            return
        stored = self._clean(name)
        if self._owners.get(stored, name) != name:
            stored = with_hash(stored, name)
        self._owners[stored] = name
        self._stored[name] = stored
        if stored != name:
            self.renamed[name] = stored
