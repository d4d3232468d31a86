"""Metrics of which the best value counts, beside the last."""

from __future__ import annotations

import math
from typing import Final, Literal

from rl_logging.bundle import Bundle
from rl_logging.records import Metrics

Goal = Literal["max", "min"]
GOALS: Final[tuple[Goal, ...]] = ("max", "min")


class Goals:
    """The best values so far of the metrics that were defined; false where none is.

    A new best is logged with the metrics it came with, as ``<name>/best`` and ``<name>/best_step``: every store shows
    them in its summary then, where a metric's last value stands.
    """

    def __init__(self) -> None:
        self._goals: dict[str, Goal] = {}
        self._best: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._goals)

    def define(self, name: str, goal: Goal, best: float | None = None) -> None:
        """Has the best value of `name` kept; `best` is what an earlier part of the run came to."""
        self._goals[name] = goal
        if best is not None:
            self._best.setdefault(name, best)

    def defined(self, name: str) -> bool:
        """Whether the best value of `name` is kept."""
        return name in self._goals

    def best(self, name: str) -> float | None:
        """Returns the best value of `name`; None before any."""
        return self._best.get(name)

    def with_best(self, values: dict[str, float], step: int) -> dict[str, float]:
        """Returns `values`, and with them each best value that is among them and new. NaN is no best value.

        Args:
            values: Metrics of one record, as they are logged.
            step: The record's.
        """
        added: dict[str, float] = {}
        for name, goal in self._goals.items():
            value = values.get(name)
            if value is None or math.isnan(value):
                continue
            best = self._best.get(name)
            if best is None or (value > best if goal == "max" else value < best):
                self._best[name] = value
                added[f"{name}/best"] = value
                added[f"{name}/best_step"] = float(step)
        return {**values, **added} if added else values


def earlier_best(bundle: Bundle, name: str) -> float | None:
    """Returns what the earlier parts of a run have logged last as the best value of `name`; None for nothing."""
    from rl_logging.reading import records  # NumPy comes with it, which a run that is not resumed does without

    best = None
    for record in records(bundle, (Metrics,)):
        assert isinstance(record, Metrics)
        best = record.values.get(f"{name}/best", best)
    return best
