"""Which metrics are logged: the setting ``metric_filter``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from rl_logging.extraction.values import AGGREGATES

_CACHED_MOST: Final = 20_000
_SLASH = re.compile(r"\s*/\s*")
_AGGREGATE = re.compile(rf"(?:/(?:{'|'.join(AGGREGATES)})|\s*\((?:{'|'.join(AGGREGATES)})\))$")
_GLOB = re.compile(r"[*?\[]")
_PARTS: Final = ("", *(f"/{part}" for part in AGGREGATES))


class MetricFilter:
    """Says which metrics are logged.

    An entry is a metric's name, the framework's own name of it, the base of either (``g`` is ``g/mean`` too, and
    ``eval/g``), or a glob; with ``!`` before it, what it matches is left out, whatever else matches. Where there are
    only such entries, all else is logged.

    Args:
        entries: The entries; None or none: everything is logged.

    Raises:
        ValueError: An entry is empty.
    """

    def __init__(self, entries: Sequence[str] | None) -> None:
        self._includes: list[_Entry] = []
        self._excludes: list[_Entry] = []
        for text in entries or ():
            stripped = text.strip()
            pattern = stripped.removeprefix("!").strip()
            if not pattern:
                raise ValueError(f"metric_filter: got {text!r}, may be a metric's name, a glob, or either behind '!'")
            (self._excludes if stripped.startswith("!") else self._includes).append(_Entry(text, pattern))
        self._cache: dict[tuple[str, ...], bool] = {}
        self._wanted: dict[tuple[tuple[str, ...], tuple[str, ...]], bool] = {}

    def __bool__(self) -> bool:
        """Whether there is anything it could leave out."""
        return bool(self._includes or self._excludes)

    def allows(self, name: str, *others: str) -> bool:
        """Returns whether a metric is logged.

        Args:
            name: What it is called in the run.
            *others: What else it is called: the framework's name, the canonical one.
        """
        if not self:
            return True
        key = (name, *others)
        known = self._cache.get(key)
        if known is None:
            if len(self._cache) >= _CACHED_MOST:
                self._cache.clear()
            known = self._cache[key] = self._decide(key, tell=True)
        return known

    def wants(self, name: str, *others: str, prefixes: tuple[str, ...] = ("",)) -> bool:
        """Returns whether anything of a value may be logged, so that it is worth being converted.

        Args:
            name: As in `allows`.
            *others: As in `allows`.
            prefixes: What may come to stand before the names.
        """
        if not self:
            return True
        names = (name, *others)
        key = (prefixes, names)
        known = self._wanted.get(key)
        if known is None:
            if len(self._wanted) >= _CACHED_MOST:
                self._wanted.clear()
            # Of names that perhaps never come no entry counts as matched.
            known = self._wanted[key] = self.allows(*names) or any(
                self._decide(tuple(f"{prefix}{own}{part}" for own in names), tell=False)
                for prefix in prefixes
                for part in _PARTS
            )
        return known

    def unmatched(self) -> list[str]:
        """Returns the entries that matched nothing so far, as they were given."""
        return [entry.text for entry in (*self._includes, *self._excludes) if not entry.matched]

    def _decide(self, names: tuple[str, ...], *, tell: bool) -> bool:
        forms = set[str]().union(*map(_forms, dict.fromkeys(names)))
        included = _any_matches(self._includes, forms, tell=tell)
        excluded = _any_matches(self._excludes, forms, tell=tell)
        return not excluded and (included or not self._includes)


class _Entry:
    def __init__(self, text: str, pattern: str) -> None:
        self.text = text
        self.matched = False
        self._spellings = {pattern, _tidy(pattern)}
        self._is_glob = _GLOB.search(pattern) is not None

    def matches(self, forms: set[str]) -> bool:
        if not self._spellings.isdisjoint(forms):
            return True
        return self._is_glob and any(fnmatchcase(form, glob) for form in forms for glob in self._spellings)


def _any_matches(entries: list[_Entry], forms: set[str], *, tell: bool) -> bool:
    hits = [entry for entry in entries if entry.matches(forms)]
    if tell:
        for entry in hits:
            entry.matched = True
    return bool(hits)


def _tidy(name: str) -> str:
    return _SLASH.sub("/", name.strip())


def _forms(name: str) -> set[str]:
    """Returns all by which an entry may mean `name`: itself and its base, each with and without what precedes it."""
    tidy = _tidy(name)
    forms = {name}
    for form in (tidy, _AGGREGATE.sub("", tidy)):
        parts = form.split("/")
        forms.update("/".join(parts[start:]) for start in range(len(parts)))
    # `g/mean` is no metric called `mean`.
    if _AGGREGATE.search(tidy) and "/" in tidy:
        forms -= set(AGGREGATES)
    forms.discard("")
    return forms
