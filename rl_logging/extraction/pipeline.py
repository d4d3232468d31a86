"""The one way from an adapter's raw values to the logger: convert, reduce, name, filter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, cast

from rl_logging.extraction.figures import Spread
from rl_logging.extraction.filters import MetricFilter
from rl_logging.extraction.intervals import Interval
from rl_logging.extraction.late import is_late
from rl_logging.extraction.names import NameTable
from rl_logging.extraction.naming import Names, Naming, Origin, Targets
from rl_logging.extraction.on_device import OnDevice
from rl_logging.extraction.values import AGGREGATES, NAN, Warn, leaves
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

    CUDA tensors are not waited for, wherever a value is taken: what is to be read of them is computed there.

    Args:
        log: Takes flat metrics and their step; and, where figures of them are not there yet, these by name: one-element
            tensors and `Late` ones, in whose place the metrics have NaN.
        accepted: Returns how many records there are so far.
        table: The framework's canonical names.
        names: Which names to log under.
        metric_filter: What to log.
        interval: How often the adapter emits; it is the adapter that keeps to it.
        warn: Called with (key, message).
        aliases: The user's own names for native or canonical ones.
        max_depth: How many levels of nested mappings are followed below a metric; None: `MAX_DEPTH`.
        met: Called whenever there is a new name among the `origins`, in the middle of whatever logs it.

    Attributes:
        interval: As given.
    """

    def __init__(
        self,
        log: Callable[..., None],
        table: NameTable,
        *,
        names: Names,
        metric_filter: MetricFilter,
        interval: Interval,
        warn: Warn,
        accepted: Callable[[], int] = lambda: 0,
        aliases: Mapping[str, str] | None = None,
        max_depth: int | None = None,
        met: Callable[[], object] | None = None,
    ) -> None:
        self.interval = interval
        self._log = log
        self._accepted = accepted
        self._naming = Naming(
            table, names=names, aliases=aliases or {}, metric_filter=metric_filter, warn=warn, met=met
        )
        self._filters = bool(metric_filter)
        self._max_depth = MAX_DEPTH if max_depth is None else max_depth
        self._warn = warn
        self._window = Window()
        self._parts: dict[str, tuple[str, str]] = {}
        self._targets: dict[str, dict[_Key, Targets]] = {}
        self._own: dict[str, str | None] = {}
        self.busy = 0
        """Above 0 while the window is drained and not logged yet: a signal handler had better wait."""

    @property
    def pending(self) -> bool:
        """Whether the window holds anything."""
        return bool(self._window)

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
        own: Mapping[str, Any] = _NOTHING,
    ) -> None:
        """Logs what the window holds, and empties it, with what is given besides: all of it as one record, or none.

        What Ctrl-C keeps from being logged stays in the window.

        Args:
            step: The run's step.
            prefix: What stands before the framework's names, such as ``eval/``.
            values: As in `log`.
            own: As in `canonical`.
        """
        out: dict[str, Any] = {}
        slots = self._window.slots
        before = self._accepted() if slots else 0
        self.busy += 1
        try:
            if slots:
                parts = self._parts
                self._add(((parts.get(name, name), value) for name, value in self._window.drain().items()), prefix, out)
            if values:
                self._add(self._figures(values), prefix, out)
            if own:
                self._add_own(own, out)
            self._hand_on(out, step)
        except Exception:
            raise
        except BaseException:
            if slots and self._accepted() == before:
                self._window.put_back(slots)
            raise
        finally:
            self.busy -= 1

    def log(self, values: Mapping[str, object], step: int, *, prefix: str = "") -> None:
        """Logs values at once, past the window.

        Args:
            values: The framework's names to values that are reduced already.
            step: The run's step.
            prefix: What stands before each name.
        """
        out: dict[str, Any] = {}
        self._add(self._figures(values), prefix, out)
        self._hand_on(out, step)

    def canonical(self, values: Mapping[str, Any], step: int) -> None:
        """Logs what the adapter itself has found out, under canonical names.

        Args:
            values: Canonical names to values; they may be `Late`.
            step: The run's step.
        """
        out: dict[str, Any] = {}
        self._add_own(values, out)
        self._hand_on(out, step)

    def origins(self) -> dict[str, Origin]:
        """Returns where each metric that was logged so far comes from, by its name in the run."""
        return self._naming.origins()

    def aliased(self) -> set[str]:
        """Returns the metrics with a name of the user's that were met so far, as the aliases call them."""
        return self._naming.aliased()

    def _hand_on(self, out: dict[str, Any], step: int) -> None:
        if not out:
            return
        if {*map(type, out.values())} == _ONLY_FLOATS:
            self._log(out, step)
            return
        later = {name: value for name, value in out.items() if type(value) is not float}
        out.update(dict.fromkeys(later, NAN))
        self._log(out, step, later)

    def _figures(self, values: Mapping[str, object]) -> Iterable[tuple[_Key, Any]]:
        # As in `flatten`: the tests run in C, and nearly every call is plain. The naming asks the filter.
        if {*map(type, values.values())} == _ONLY_FLOATS and {*map(type, values)} == _ONLY_STRINGS and "" not in values:
            return cast("Mapping[_Key, float]", values).items()
        return self._converted(values)

    def _converted(self, values: Mapping[str, object]) -> Iterator[tuple[_Key, Any]]:
        wanted = self._naming.wants if self._filters else None
        # The framework's metrics are the top, and what one of them holds the first level below.
        for native, leaf in leaves(values, self._warn, max_depth=self._max_depth, wanted=wanted):
            if type(leaf) is float:
                yield native, leaf
                continue
            figures = leaf.figures if isinstance(leaf, OnDevice) else cast("Spread", leaf)
            if len(figures) == 1:
                yield native, figures[0]
                continue
            for part, figure in zip(AGGREGATES, figures, strict=True):
                yield (native, part), figure

    def _add(self, figures: Iterable[tuple[_Key, Any]], prefix: str, out: dict[str, Any]) -> None:
        """Adds figures under their names in the run."""
        known = self._targets.setdefault(prefix, {})
        for key, value in figures:
            targets = known.get(key)
            if targets is None:
                native, part = key if isinstance(key, tuple) else (key, "")
                targets = known[key] = self._naming.of_native(prefix, native, part)
            for name, scale in targets:
                if scale == 1.0:
                    out[name] = value
                else:
                    out[name] = (value if type(value) is float else value.double()) * scale

    def _add_own(self, values: Mapping[str, Any], out: dict[str, Any]) -> None:
        own = self._own
        for name, value in values.items():
            if name not in own:
                own[name] = self._naming.of_canonical(name)
            target = own[name]
            if target is not None:
                out[target] = value if type(value) is float or is_late(value) else float(value)
