"""The one way from an adapter's raw values to the logger: convert, reduce, name, filter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, cast

from rl_logging.extraction.figures import Spread
from rl_logging.extraction.filters import MetricFilter
from rl_logging.extraction.intervals import Interval
from rl_logging.extraction.names import NameTable
from rl_logging.extraction.naming import Names, Naming, Origin, Targets
from rl_logging.extraction.values import AGGREGATES, Warn, leaves
from rl_logging.extraction.window import Window

MAX_DEPTH: Final = 2
"""Levels of nested mappings that are followed below a framework's metric where the settings give no number."""

_Key = str | tuple[str, str]
"""The framework's name, with the aggregate it is of the value where it is one."""
_NOTHING: Final[Mapping[str, Any]] = {}
_ONLY_FLOATS: Final = {float}
_ONLY_STRINGS: Final = {str}


class Pipeline:
    """What an adapter logs through.

    Args:
        log: Takes flat metrics and their step.
        table: The framework's canonical names.
        names: Which names to log under.
        metric_filter: What to log.
        interval: How often the adapter emits; it is the adapter that keeps to it.
        warn: Called with (key, message).
        aliases: The user's own names for native or canonical ones.
        max_depth: How many levels of nested mappings are followed below a metric; None: `MAX_DEPTH`.

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
        aliases: Mapping[str, str] | None = None,
        max_depth: int | None = None,
    ) -> None:
        self.interval = interval
        self._log = log
        self._naming = Naming(table, names=names, aliases=aliases or {}, metric_filter=metric_filter, warn=warn)
        self._filters = bool(metric_filter)
        self._max_depth = MAX_DEPTH if max_depth is None else max_depth
        self._warn = warn
        self._window = Window()
        self._parts: dict[str, tuple[str, str]] = {}
        self._targets: dict[str, dict[_Key, Targets]] = {}
        self._own: dict[str, str | None] = {}
        self.busy = 0
        """Above 0 while something is taken out of where it waited, and not logged yet."""

    def record(self, native: str, value: object, how: str | None = None) -> None:
        """Takes a value into the window; one that the filter leaves out costs no conversion.

        Args:
            native: The framework's name.
            value: As in `rl_logging.extraction.flatten`.
            how: How several become one: ``last``, ``mean``, ``min``, ``max``; None: as the name says.
        """
        if type(value) is float:
            if not self._filters or self._naming.wants(native):
                self._window.add(native, value, how)
            return
        for key, figure in self._figures({native: value}):
            if isinstance(key, tuple):
                name = "/".join(key)
                self._parts[name] = key
                self._window.add(name, figure, key[1] if key[1] in ("min", "max") else how)
            else:
                self._window.add(key, figure, how)

    def emit(
        self,
        step: int,
        *,
        prefix: str = "",
        values: Mapping[str, object] = _NOTHING,
        own: Mapping[str, float] = _NOTHING,
    ) -> None:
        """Logs what the window holds, and empties it, with what is given besides: all of it as one record, or none.

        Args:
            step: The run's step.
            prefix: What stands before the framework's names, such as ``eval/``.
            values: As in `log`.
            own: As in `canonical`.
        """
        out: dict[str, float] = {}
        self.busy += 1
        try:
            if len(self._window):
                parts = self._parts
                self._add(((parts.get(name, name), value) for name, value in self._window.drain().items()), prefix, out)
            if values:
                self._add(self._figures(values), prefix, out)
            if own:
                self._add_own(own, out)
            if out:
                self._log(out, step)
        finally:
            self.busy -= 1

    def log(self, values: Mapping[str, object], step: int, *, prefix: str = "") -> None:
        """Logs values at once, past the window.

        Args:
            values: The framework's names to values that are reduced already.
            step: The run's step.
            prefix: What stands before each name.
        """
        out: dict[str, float] = {}
        self._add(self._figures(values), prefix, out)
        if out:
            self._log(out, step)

    def canonical(self, values: Mapping[str, float], step: int) -> None:
        """Logs what the adapter itself has found out, under canonical names.

        Args:
            values: Canonical names to values.
            step: The run's step.
        """
        out: dict[str, float] = {}
        self._add_own(values, out)
        if out:
            self._log(out, step)

    def origins(self) -> dict[str, Origin]:
        """Returns where each metric that was logged so far comes from, by its name in the run."""
        return self._naming.origins()

    def aliased(self) -> set[str]:
        """Returns the metrics with a name of the user's that were met so far, as the aliases call them."""
        return self._naming.aliased()

    def _figures(self, values: Mapping[str, object]) -> Iterable[tuple[_Key, float]]:
        # As in `flatten`: the tests run in C, and nearly every call is plain. The naming asks the filter.
        if {*map(type, values.values())} == _ONLY_FLOATS and {*map(type, values)} == _ONLY_STRINGS and "" not in values:
            return cast("Mapping[_Key, float]", values).items()
        return self._converted(values)

    def _converted(self, values: Mapping[str, object]) -> Iterator[tuple[_Key, float]]:
        wanted = self._naming.wants if self._filters else None
        # The framework's metrics are the top, and what one of them holds the first level below.
        for native, leaf in leaves(values, self._warn, max_depth=self._max_depth, wanted=wanted):
            if isinstance(leaf, Spread):
                for part, figure in zip(AGGREGATES, leaf, strict=True):
                    yield (native, part), figure
            else:
                yield native, leaf

    def _add(self, figures: Iterable[tuple[_Key, float]], prefix: str, out: dict[str, float]) -> None:
        """Adds figures under their names in the run."""
        known = self._targets.setdefault(prefix, {})
        for key, value in figures:
            targets = known.get(key)
            if targets is None:
                native, part = key if isinstance(key, tuple) else (key, "")
                targets = known[key] = self._naming.of_native(prefix, native, part)
            for name, scale in targets:
                out[name] = value if scale == 1.0 else value * scale

    def _add_own(self, values: Mapping[str, float], out: dict[str, float]) -> None:
        own = self._own
        for name, value in values.items():
            if name not in own:
                own[name] = self._naming.of_canonical(name)
            target = own[name]
            if target is not None:
                out[target] = float(value)
