"""What lies between two emissions: every value recorded, reduced to one at the end."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from rl_logging.extraction.device_slot import DeviceSlot

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
    """Collects raw values and reduces them to one for each name; it does not grow with their number.

    Attributes:
        slots: What was added since the last `drain`, by name.
    """

    def __init__(self) -> None:
        self.slots: dict[str, _Slot | DeviceSlot] = {}
        self._reductions: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.slots)

    def add(self, native: str, value: Any, how: str | None = None) -> None:
        """Adds a value.

        Args:
            native: The framework's name.
            value: A float, or a CUDA tensor of one element: it is copied there, and nobody waits for it.
            how: ``last``, ``mean``, ``min`` or ``max``; None: as before for this name, at first as `reduction` says.

        Raises:
            ValueError: `how` is none of these.
        """
        if how is None:
            how = self._reductions.get(native) or reduction(native)
        elif how not in _REDUCERS:
            raise ValueError(f"how: got {how!r}, may be {', '.join(_REDUCERS)}")
        self._reductions[native] = how
        slot = self.slots.get(native)
        if type(value) is not float and type(slot) is not DeviceSlot:
            before, slot = slot, DeviceSlot(value)
            self.slots[native] = slot
            if before is not None:
                slot.add_reduced(before.count, before.total, before.low, before.high)
        if slot is None:
            self.slots[native] = _Slot(value)
        else:
            slot.add(value)

    def drain(self) -> dict[str, Any]:
        """Returns one value for each name, in the order they came, and begins anew.

        It is a float, or a tensor of one float64 where any of the name's values was on a device.
        """
        slots, self.slots = self.slots, {}
        return {native: _REDUCERS[self._reductions[native]](slot) for native, slot in slots.items()}

    def put_back(self, slots: dict[str, _Slot | DeviceSlot]) -> None:
        """Takes back what the `slots` were before a `drain` of which nothing came, if there was one."""
        if self.slots is not slots:
            self.slots = {**slots, **self.slots}


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


_REDUCERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "last": lambda slot: slot.last,
    "mean": lambda slot: slot.total / slot.count,
    "min": lambda slot: slot.low,
    "max": lambda slot: slot.high,
}
