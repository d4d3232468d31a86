"""The one way from an adapter's raw values to the logger: convert, reduce, name, filter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal

from rl_logging.extraction.filters import MetricFilter
from rl_logging.extraction.intervals import Interval
from rl_logging.extraction.names import NameTable, Rename
from rl_logging.extraction.values import AGGREGATES, Spread, Warn, leaves
from rl_logging.extraction.window import Window

Names = Literal["canonical", "native", "both"]
_Figure = tuple[str, str, float]
_Targets = tuple[tuple[str, float], ...]

_PREFIXES: Final = ("", "eval/")
_PARTS: Final = ("", *(f"/{part}" for part in AGGREGATES))


class Pipeline:
    """What an adapter logs through.

    Args:
        log: Takes flat metrics and their step.
        table: The framework's canonical names.
        names: Which names to log under.
        metric_filter: What to log.
        interval: How often the adapter emits; it is the adapter that keeps to it.
        warn: Called with (key, message).

    Attributes:
        interval: As given.
    """

    def __init__(
        self,
        log: Callable[[dict[str, float], int | None], None],
        table: NameTable,
        *,
        names: Names,
        metric_filter: MetricFilter,
        interval: Interval,
        warn: Warn,
    ) -> None:
        self.interval = interval
        self._log = log
        self._table = table
        self._names = names
        self._filter = metric_filter
        self._warn = warn
        self._window = Window()
        self._parts: dict[str, tuple[str, str]] = {}
        self._renames: dict[str, Rename] = {}
        self._owners: dict[str, str] = {}
        self._targets: dict[tuple[str, str, str], _Targets] = {}
        self._wanted: dict[str, bool] = {}

    def record(self, native: str, value: object, how: str | None = None) -> None:
        """Takes a value into the window; one that the filter leaves out costs no conversion.

        Args:
            native: The framework's name.
            value: As in `rl_logging.extraction.flatten`.
            how: How several become one: ``last``, ``mean``, ``min``, ``max``; None: as the name says.
        """
        if not self._is_wanted(native, value):
            return
        if type(value) is float:
            self._window.add(native, value, how)
            return
        for name, part, figure in self._figures({native: value}):
            if part:
                key = f"{name}/{part}"
                self._parts[key] = (name, part)
                self._window.add(key, figure, part if part in ("min", "max") else how)
            else:
                self._window.add(name, figure, how)

    def emit(self, step: int, *, prefix: str = "") -> None:
        """Logs what the window holds as one record, and empties it; nothing where it holds nothing.

        Args:
            step: The run's step.
            prefix: What stands before each name, such as ``eval/``.
        """
        if len(self._window):
            drained = self._window.drain().items()
            self._send(((*self._parts.get(key, (key, "")), value) for key, value in drained), step, prefix)

    def log(self, values: Mapping[str, object], step: int, *, prefix: str = "") -> None:
        """Logs values at once, past the window.

        Args:
            values: The framework's names to values that are reduced already.
            step: The run's step.
            prefix: What stands before each name.
        """
        wanted = {native: value for native, value in values.items() if self._is_wanted(native, value)}
        self._send(self._figures(wanted), step, prefix)

    def canonical(self, values: Mapping[str, float], step: int) -> None:
        """Logs what the adapter itself has found out, under canonical names.

        Args:
            values: Canonical names to values.
            step: The run's step.
        """
        allowed = {name: float(value) for name, value in values.items() if self._filter.allows(name)}
        if allowed:
            self._log(allowed, step)

    def _figures(self, values: Mapping[str, object]) -> Iterator[_Figure]:
        for native, leaf in leaves(values, self._warn):
            if isinstance(leaf, Spread):
                for part, figure in zip(AGGREGATES, leaf, strict=True):
                    yield native, part, figure
            else:
                yield native, "", leaf

    def _send(self, figures: Iterable[_Figure], step: int, prefix: str) -> None:
        out: dict[str, float] = {}
        for native, part, value in figures:
            key = (prefix, native, part)
            targets = self._targets.get(key)
            if targets is None:
                targets = self._targets[key] = tuple(self._resolve(prefix, native, part))
            for name, scale in targets:
                out[name] = value if scale == 1.0 else value * scale
        if out:
            self._log(out, step)

    def _resolve(self, prefix: str, native: str, part: str) -> Iterator[tuple[str, float]]:
        """Yields under which names, and times what, a figure is logged; nothing where the filter leaves it out."""
        rename = self._rename(native)
        scale, canonical_part = rename.scale, part
        if scale < 0:  # what was the least is the greatest, and a deviation stays one
            canonical_part = {"min": "max", "max": "min"}.get(part, part)
            scale = -scale if part == "std" else scale
        own = f"{prefix}{native}/{part}" if part else f"{prefix}{native}"
        canonical = f"{prefix}{rename.canonical}/{canonical_part}" if part else f"{prefix}{rename.canonical}"
        if not self._filter.allows(canonical, own):
            return
        if self._names != "native":
            yield canonical, scale
        if self._names == "native" or (self._names == "both" and own != canonical):
            yield own, 1.0

    def _rename(self, native: str) -> Rename:
        known = self._renames.get(native)
        if known is None:
            known = self._renames[native] = self._claim(native)
        return known

    def _claim(self, native: str) -> Rename:
        """Returns a name that no other of the framework's metrics has in this run."""
        wanted = self._table.lookup(native)
        owner = self._owners.setdefault(wanted.canonical, native)
        if owner == native:
            return wanted
        own = self._table.own_name(native)
        numbered = (f"{own}.{number}" for number in range(2, len(self._owners) + 3))
        free = next(name for name in (own, native, *numbered) if name not in self._owners)
        self._owners[free] = native
        if self._names != "native":
            self._warn(
                f"name {native}",
                f"'{owner}' and '{native}' are both '{wanted.canonical}': the first has the name, the second is logged "
                f"as '{free}'",
            )
        return Rename(free)

    def _is_wanted(self, native: str, value: object) -> bool:
        """Returns whether any of a value may pass the filter, so that the conversion is worth its cost."""
        if not self._filter or isinstance(value, Mapping):
            return True
        known = self._wanted.get(native)
        if known is None:
            name = self._table.lookup(native).canonical
            # An evaluation's prefix and the aggregates' parts come later.
            known = self._wanted[native] = self._filter.allows(name, native) or any(
                self._filter.could_allow(f"{prefix}{name}{part}", f"{prefix}{native}{part}")
                for prefix in _PREFIXES
                for part in _PARTS
            )
        return known
