"""The one way from an adapter's raw values to the logger: convert, reduce, name, filter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from rl_logging.extraction.filters import MetricFilter
from rl_logging.extraction.intervals import Interval
from rl_logging.extraction.names import NameTable
from rl_logging.extraction.naming import Names, Naming, Origin, Targets
from rl_logging.extraction.values import AGGREGATES, Spread, Warn, leaves
from rl_logging.extraction.window import Window

MAX_DEPTH: Final = 2
"""Levels of nested mappings that are followed below a framework's metric where the settings give no number."""

_Figure = tuple[str, str, float]


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
        self._targets: dict[tuple[str, str, str], Targets] = {}
        self._own: dict[str, str | None] = {}

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
        self._send(self._figures(values), step, prefix)

    def canonical(self, values: Mapping[str, float], step: int) -> None:
        """Logs what the adapter itself has found out, under canonical names.

        Args:
            values: Canonical names to values.
            step: The run's step.
        """
        out: dict[str, float] = {}
        for name, value in values.items():
            if name not in self._own:
                self._own[name] = self._naming.of_canonical(name)
            own = self._own[name]
            if own is not None:
                out[own] = float(value)
        if out:
            self._log(out, step)

    def origins(self) -> dict[str, Origin]:
        """Returns where each metric that was logged so far comes from, by its name in the run."""
        return self._naming.origins()

    def _figures(self, values: Mapping[str, object]) -> Iterator[_Figure]:
        wanted = self._naming.wants if self._filters else None
        # The framework's metrics are the top, and what one of them holds the first level below.
        for native, leaf in leaves(values, self._warn, max_depth=self._max_depth, wanted=wanted):
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
                targets = self._targets[key] = self._naming.of_native(prefix, native, part)
            for name, scale in targets:
                out[name] = value if scale == 1.0 else value * scale
        if out:
            self._log(out, step)
