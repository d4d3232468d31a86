"""What an agent has tracked and nobody has emitted yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Window = dict[str, list[Any]]
"""Raw values by skrl's tag, in the order they were tracked."""


class TrackedData:
    """Takes each value out of an agent's ``tracking_data`` exactly once, and leaves it there.

    skrl itself clears it at each write, and its best checkpoint reads it, so it is never touched; a cursor per list
    remembers what was taken.

    Args:
        agent: The agent.
    """

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self._data: Any = None
        self._cursors: dict[str, tuple[Any, int]] = {}
        self._window: Window = {}
        self.take()
        self._window = {}

    def add(self, tag: str, value: float) -> None:
        """Adds a value of our own."""
        self._window.setdefault(tag, []).append(value)

    def take(self) -> None:
        """Takes over what is new; must run before anything clears it."""
        cursors, window = self._cursors, self._window
        data = self._agent.tracking_data
        replaced = data is not self._data
        self._data = data
        for tag, values in data.items():
            known, start = cursors.get(tag, (None, 0))
            if not isinstance(values, list):
                # Not skrl's own: an agent that keeps only the present value under a name.
                if replaced or known is not values:
                    window[tag] = [values]
                    cursors[tag] = (values, 0)
                continue
            if known is not values or start > len(values):
                start = 0
            if len(values) > start:
                window.setdefault(tag, []).extend(values[start:] if start else values)
                cursors[tag] = (values, len(values))

    def drain(self) -> Window:
        """Returns all that was taken or added since the last call."""
        self.take()
        window, self._window = self._window, {}
        return window


def reduced(window: Mapping[str, list[Any]]) -> tuple[dict[str, float], Window]:
    """Reduces a window the way skrl's own writing does: by the tag's ending to a minimum or maximum, else the mean.

    Returns:
        The reduced values, and the part of the window that is not one number at a time.
    """
    values: dict[str, float] = {}
    rest: Window = {}
    for tag, tracked in window.items():
        reduce = np.min if tag.endswith("(min)") else np.max if tag.endswith("(max)") else np.mean
        try:
            array = np.asarray(tracked)
            if array.size == len(tracked):
                values[tag] = float(reduce(array))
                continue
        except (TypeError, ValueError, RuntimeError):
            pass  # tensors on a device, lists of unequal length, or no numbers at all: the pipeline knows or tells
        rest[tag] = tracked
    return values, rest
