"""What lies between two emissions: every value recorded, reduced to one at the end."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Final, Literal

How = Literal["last", "mean", "min", "max"]

_LAST = re.compile(
    r"(n_updates|iterations?|episodes|epochs?|(\w+_)?timesteps|(global_)?steps?|time_elapsed|fps|ep_(rew|len)_mean"
    r"|\w*_rate|lr|clip_range(_vf)?|(\w+_)?epsilon)"
)
_AGENT = re.compile(r"\s*\([^()]*\)$")


@functools.lru_cache(maxsize=4096)
def reduction(native: str) -> How:
    """Returns how several values of a metric become one.

    Names that end in ``(min)`` and ``(max)`` say so themselves, as ``(mean)`` and ``(std)`` ask for the mean; of
    counters, clocks, schedules and running means the last value holds; else it is the mean.
    """
    if native.endswith("(min)"):
        return "min"
    if native.endswith("(max)"):
        return "max"
    if native.endswith(("(mean)", "(std)")):
        return "mean"
    name = _AGENT.sub("", native.rpartition("/")[2]).strip().lower().replace(" ", "_")
    return "last" if _LAST.fullmatch(name) else "mean"


class Window:
    """Collects raw values and reduces them to one for each name; it does not grow with their number."""

    def __init__(self) -> None:
        self._slots: dict[str, _Slot] = {}
        self._reductions: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, native: str, value: float, how: str | None = None) -> None:
        """Adds a value.

        Args:
            native: The framework's name.
            value: The value.
            how: ``last``, ``mean``, ``min`` or ``max``; None: as before for this name, at first as `reduction` says.

        Raises:
            ValueError: `how` is none of these.
        """
        if how is None:
            how = self._reductions.get(native) or reduction(native)
        elif how not in _REDUCERS:
            raise ValueError(f"how: got {how!r}, may be {', '.join(_REDUCERS)}")
        self._reductions[native] = how
        slot = self._slots.get(native)
        if slot is None:
            self._slots[native] = _Slot(value)
        else:
            slot.add(value)

    def drain(self) -> dict[str, float]:
        """Returns one value for each name, in the order they came, and begins anew."""
        slots, self._slots = self._slots, {}
        return {native: _REDUCERS[self._reductions[native]](slot) for native, slot in slots.items()}


class _Slot:
    __slots__ = ("count", "high", "last", "low", "total")

    def __init__(self, value: float) -> None:
        self.count = 1
        self.total = self.low = self.high = self.last = value

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.last = value
        # A comparison with a NaN is false: so one gets in, and then stays.
        if not value >= self.low and self.low == self.low:
            self.low = value
        if not value <= self.high and self.high == self.high:
            self.high = value


_REDUCERS: Final[Mapping[str, Callable[[_Slot], float]]] = {
    "last": lambda slot: slot.last,
    "mean": lambda slot: slot.total / slot.count,
    "min": lambda slot: slot.low,
    "max": lambda slot: slot.high,
}
