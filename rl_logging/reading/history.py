"""A run's metrics as arrays, read from its journal."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import numpy as np

from rl_logging.bundle import Bundle
from rl_logging.reading.runs import records
from rl_logging.records import Metrics
from rl_logging.stores import Points


class _Growing:
    """A metric's points while they are collected, 24 bytes each."""

    def __init__(self) -> None:
        self.step = array("q")
        self.time = array("d")
        self.value = array("d")

    def all(self) -> Points:
        return Points(np.array(self.step, np.int64), np.array(self.time, np.float64), np.array(self.value, np.float64))


def history(bundle: Bundle, wanted: Callable[[str], bool] | None = None) -> dict[str, Points]:
    """Returns a run's metrics by name, in the order of their first points.

    Args:
        bundle: The run; it may still be going on.
        wanted: Says which names; None: all.
    """
    found: dict[str, _Growing] = {}
    unwanted: set[str] = set()
    for record in records(bundle, (Metrics,)):
        assert isinstance(record, Metrics)
        step = record.step or 0
        for name, value in record.values.items():
            points = found.get(name)
            if points is None:
                if name in unwanted:
                    continue
                if wanted is not None and not wanted(name):
                    unwanted.add(name)
                    continue
                points = found[name] = _Growing()
            points.step.append(step)
            points.time.append(record.time)
            points.value.append(value)
    return {name: points.all() for name, points in found.items()}
