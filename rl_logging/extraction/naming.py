"""Under which names one adapter's metrics are logged: the table's, the user's own, and no name twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

from rl_logging.extraction.filters import MetricFilter
from rl_logging.extraction.names import NameTable, Rename
from rl_logging.extraction.values import Warn

Names = Literal["canonical", "native", "both"]
Targets = tuple[tuple[str, float], ...]

EVALUATION: Final = "eval/"
_PREFIXES: Final = ("", EVALUATION)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a metric of the run comes from.

    Attributes:
        native: What the framework calls it; None for what the adapter has found out itself.
        canonical: Its canonical name, or its own one cleaned where it has none; whether or not it is logged under that.
        factor: What the framework's value was multiplied by.
    """

    native: str | None
    canonical: str
    factor: float = 1.0


def _nothing() -> None:
    pass


class Naming:
    """Gives an adapter's metrics their names in the run.

    Args:
        table: The framework's canonical names.
        names: Which names to log under.
        aliases: The user's own names for native or canonical ones; they go before both.
        metric_filter: What to log.
        warn: Called with (key, message).
        met: Called whenever there is a new name among the `origins`.
    """

    def __init__(
        self,
        table: NameTable,
        *,
        names: Names,
        aliases: Mapping[str, str],
        metric_filter: MetricFilter,
        warn: Warn,
        met: Callable[[], object] | None = None,
    ) -> None:
        self._table = table
        self._met = met or _nothing
        self._names = names
        self._aliases = dict(aliases)
        self._filter = metric_filter
        self._warn = warn
        self._reserved = {alias: known for known, alias in reversed(self._aliases.items())}
        self._wanted: dict[str, bool] = {}
        self._owners: dict[str, str] = {}
        self._renames: dict[str, Rename] = {}
        self._origins: dict[str, Origin] = {}
        self._aliased: set[str] = set()

    def wants(self, native: str) -> bool:
        """Returns whether any of a native metric may pass the filter, so that the conversion is worth its cost."""
        known = self._wanted.get(native)
        if known is None:
            # An evaluation's prefix and the aggregates' parts come later.
            known = self._wanted[native] = self._filter.wants(*self._called(native), prefixes=_PREFIXES)
        return known

    def of_native(self, prefix: str, native: str, part: str) -> Targets:
        """Returns under which names, and times what, a figure is logged; nothing where the filter leaves it out.

        Args:
            prefix: What stands before each name.
            native: The framework's name.
            part: The aggregate it is; empty for a value.
        """
        rename, known, alias = self._rename(native), self._table.lookup(native), self._alias(native)
        factor = abs(rename.scale) if part == "std" else rename.scale  # a deviation has no sign
        own = _joined(prefix, native, part)
        name = _joined(prefix, rename.canonical, _turned(part, rename.scale))
        canonical = _joined(prefix, known.canonical, _turned(part, known.scale))
        if not self._filter.allows(name, own, *(() if alias is None else (canonical,))):
            return ()
        targets = tuple(self._targets(name, own, factor, is_alias=alias is not None))
        for target, times in targets:
            self._origins.setdefault(target, Origin(own, canonical, times))
        if targets:
            self._met()
        return targets

    def of_canonical(self, name: str) -> str | None:
        """Returns what the adapter's own figure is logged as; None where the filter leaves it out."""
        prefix = EVALUATION if name.startswith(EVALUATION) else ""
        alias = self._alias_of(name)
        if alias is None and prefix and (below := self._alias_of(name.removeprefix(prefix))) is not None:
            alias = prefix + below
        if not self._filter.allows(alias or name, name):
            return None
        logged = alias or name
        taken = self._reserved.get(name) or self._reserved.get(name.removeprefix(prefix))
        if alias is None and taken is not None:
            logged = f"{name}.2"
            self._warn(
                f"name {name}",
                f"'{taken}' is called '{name}' by rl_logging.aliases: the metric of that name is logged as '{logged}'",
            )
        self._origins.setdefault(logged, Origin(None, name))
        self._met()
        return logged

    def origins(self) -> dict[str, Origin]:
        """Returns where each metric that was logged so far comes from, by its name in the run."""
        return dict(self._origins)

    def aliased(self) -> set[str]:
        """Returns the names among the aliases that a metric was met of."""
        return set(self._aliased)

    def _targets(self, name: str, own: str, factor: float, *, is_alias: bool) -> Iterator[tuple[str, float]]:
        under_native = self._names == "native" and not is_alias
        if not under_native:
            yield name, factor
        if under_native or (self._names == "both" and own != name):
            yield own, 1.0

    def _called(self, native: str) -> tuple[str, ...]:
        canonical = self._table.lookup(native).canonical
        alias = self._alias(native)
        return (canonical, native) if alias is None else (alias.canonical, native, canonical)

    def _alias(self, native: str) -> Rename | None:
        """Returns the user's name for a metric: by its own name for its own value, else for the canonical one's."""
        own = self._alias_of(native)
        if own is not None:
            return Rename(own)
        known = self._table.lookup(native)
        alias = self._alias_of(known.canonical)
        return None if alias is None else Rename(alias, known.scale)

    def _alias_of(self, name: str) -> str | None:
        alias = self._aliases.get(name)
        if alias is not None:
            self._aliased.add(name)
        return alias

    def _rename(self, native: str) -> Rename:
        known = self._renames.get(native)
        if known is None:
            known = self._renames[native] = self._claim(native)
        return known

    def _claim(self, native: str) -> Rename:
        """Returns a name that no other of the framework's metrics has in this run."""
        alias = self._alias(native)
        wanted = alias or self._table.lookup(native)
        reserved = {} if alias is not None else self._reserved
        owner = reserved.get(wanted.canonical) or self._owners.setdefault(wanted.canonical, native)
        if owner == native:
            return wanted
        own = self._table.own_name(native)
        taken = self._owners.keys() | self._reserved.keys()
        numbered = (f"{own}.{number}" for number in range(2, len(taken) + 3))
        free = next(name for name in (own, native, *numbered) if name not in taken)
        self._owners[free] = native
        if self._names != "native" or alias is not None:
            self._warn(
                f"name {native}",
                f"'{owner}' and '{native}' are both '{wanted.canonical}': the first has the name, the second is logged "
                f"as '{free}'",
            )
        return Rename(free)


def _joined(prefix: str, name: str, part: str) -> str:
    return f"{prefix}{name}/{part}" if part else f"{prefix}{name}"


def _turned(part: str, factor: float) -> str:
    """Returns which aggregate of the product `part` of the value is: what was the least is the greatest."""
    return {"min": "max", "max": "min"}.get(part, part) if factor < 0 else part
