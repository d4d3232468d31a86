"""What an agent has tracked and nobody has emitted yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from rl_logging.extraction.on_device import is_on_cuda
from rl_logging.extraction.window import How

_NUMBERS: Final = "biuf"
_PLAIN: Final = (float, np.floating, np.integer)

_NOT_SEEN: Final = (None, 0)

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
            known, start = cursors.get(tag, _NOT_SEEN)
            if not isinstance(values, list):
                # Not skrl's own: an agent that keeps only the present value under a name.
                if replaced or known is not values:
                    window[tag] = [values]
                    cursors[tag] = (values, 0)
                continue
            count = len(values)
            if known is not values or start > count:
                start = 0
            if count > start:
                cursors[tag] = (values, count)
                taken = window.get(tag)
                if taken is None:
                    window[tag] = values[start:]
                else:
                    taken.extend(values[start:])

    def drain(self) -> Window:
        """Returns all that was taken or added since the last call."""
        self.take()
        window, self._window = self._window, {}
        return window


def reduced(window: Mapping[str, list[Any]], reduction: Callable[[str], How]) -> tuple[dict[str, float], Window]:
    """Reduces what is one number at a time.

    Args:
        window: What was tracked.
        reduction: How the values of a tag become one.

    Returns:
        The reduced values, and the rest of the window: the pipeline converts or tells.
    """
    values: dict[str, float] = {}
    rest: Window = {}
    for tag, tracked in window.items():
        figure = tracked[0] if len(tracked) == 1 else _reduced_in_python(tracked, reduction(tag))
        if isinstance(figure, _PLAIN):
            values[tag] = float(figure)
            continue
        if is_on_cuda(tracked[0]):
            rest[tag] = tracked
            continue
        try:
            array = np.asarray(tracked)
        except (TypeError, ValueError, RuntimeError):
            rest[tag] = tracked  # lists of unequal length, or some on a device
            continue
        if array.dtype.kind in _NUMBERS and array.size == len(tracked):
            values[tag] = _REDUCERS[reduction(tag)](array)
        else:
            rest[tag] = tracked
    return values, rest


def _reduced_in_python(tracked: list[Any], how: How) -> Any:
    """Returns the reduction of plain floats, for which NumPy takes several times as long; None for anything else."""
    if type(tracked[0]) is not float:
        return None
    try:
        total = sum(tracked)
        if type(total) is not float:
            return None
        if how == "mean":
            return total / len(tracked)
        if how == "last" or total != total:  # with a NaN among them, Python's least depends on their order
            return None
        return min(tracked) if how == "min" else max(tracked)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def of_skrl(tag: str) -> How:
    """Returns how skrl's own writing reduces: by the tag's ending to a minimum or maximum, else to the mean."""
    return "min" if tag.endswith("(min)") else "max" if tag.endswith("(max)") else "mean"


# What np.mean, np.min and np.max call in the end; for some ten values, what they do before takes several times as long.
_REDUCERS: Final[Mapping[str, Callable[[np.ndarray[Any, Any]], float]]] = {
    "last": lambda array: float(array.flat[-1]),
    "mean": lambda array: float(np.add.reduce(array, axis=None, dtype=np.float64) / array.size),
    "min": lambda array: float(np.minimum.reduce(array, axis=None)),
    "max": lambda array: float(np.maximum.reduce(array, axis=None)),
}
