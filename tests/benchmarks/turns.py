"""Measuring calls that take turns, so that a slow spell of the machine hits all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

TURN_S = 0.1

Call = Callable[[int], object]
"""Called with a step that rises from call to call."""


def measure(subjects: Mapping[str, Call], rounds: int, calls: int) -> dict[str, list[float]]:
    """Returns the seconds of each call of each subject; a first round, which warms up, is not counted.

    A subject's turn is over after so many calls, or `TURN_S`: the slow ones are called less often.
    """
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    step = 0
    for number in range(rounds + 1):
        for name, call in subjects.items():
            turn_began = time.perf_counter()
            for _ in range(calls):
                step += 1
                begin = time.perf_counter()
                call(step)
                end = time.perf_counter()
                if number:
                    seconds[name].append(end - begin)
                if end - turn_began > TURN_S:
                    break
    return seconds


def summarise(series: list[float]) -> dict[str, float]:
    """Returns the median, the 99th percentile and the number of calls."""
    ordered = sorted(series)
    return {
        "median_us": statistics.median(ordered) * 1e6,
        "p99_us": ordered[int(len(ordered) * 0.99)] * 1e6,
        "calls": len(ordered),
    }


def medians_us(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Returns each subject's median in microseconds."""
    return {name: statistics.median(series) * 1e6 for name, series in seconds.items()}
