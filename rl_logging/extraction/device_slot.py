"""Values of one metric that lie on a CUDA device, reduced to one there: nothing here waits for them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

from rl_logging.extraction.on_device import is_on_cuda

_MOST: Final = 256


class DeviceSlot:
    """Keeps values, and their count, sum, least, greatest and last; it does not grow with their number.

    All of it is float64 on the device of the first value. A NaN among them makes all but the last NaN.

    Args:
        first: A CUDA tensor of one element: where the values go. It is not added.
    """

    def __init__(self, first: Any) -> None:
        self.count = 0
        self._device = first.device
        self._like = first.new_empty
        self._new: list[Any] = []
        self._sum: Any = None
        self._low: Any = None
        self._high: Any = None
        self.last: Any = None

    def add(self, value: Any) -> None:
        """Adds a float, or a tensor of one element, which may be written to afterwards."""
        self.count += 1
        self.last = self._copied(value)
        self._new.append(self.last)
        if len(self._new) >= _MOST:
            self._reduce()

    def add_reduced(self, count: int, total: float, low: float, high: float) -> None:
        """Adds several floats, of which only this is known any more."""
        self.count += count
        self._include(self._copied(total), self._copied(low), self._copied(high))

    @property
    def total(self) -> Any:
        """The sum."""
        self._reduce()
        return self._sum

    @property
    def low(self) -> Any:
        """The least."""
        self._reduce()
        return self._low

    @property
    def high(self) -> Any:
        """The greatest."""
        self._reduce()
        return self._high

    def _copied(self, value: Any) -> Any:
        torch = sys.modules["torch"]
        if not hasattr(value, "detach"):  # filled in there: a copy from the host would be waited for
            return self._like((), dtype=torch.float64).fill_(value)
        there = value.detach().reshape(())
        return there.to(self._device, torch.float64, non_blocking=True, copy=True)

    def _reduce(self) -> None:
        if self._new:
            stacked = sys.modules["torch"].stack(self._new)
            self._new = []
            self._include(stacked.sum(), stacked.amin(), stacked.amax())

    def _include(self, total: Any, low: Any, high: Any) -> None:
        if self._sum is None:
            self._sum, self._low, self._high = total, low, high
            return
        torch = sys.modules["torch"]
        self._sum = self._sum + total
        self._low = torch.minimum(self._low, low)
        self._high = torch.maximum(self._high, high)


def added(values: Sequence[Any]) -> Any:
    """Returns the sum of numbers and tensors of one element: a float, or on the device where any of them is on one."""
    there = next((value for value in values if is_on_cuda(value)), None)
    if there is None:
        return sum(map(float, values))
    slot = DeviceSlot(there)
    for value in values:
        slot.add(value)
    return slot.total
