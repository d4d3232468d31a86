"""What is told of finished episodes: each one's own return and length, and figures over the last of them."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

WINDOW: Final = 100
"""Finished episodes that a mean is taken over."""


class FinishedEpisodes:
    """Returns, lengths and successes of the last `WINDOW` finished episodes, and what was not told of yet."""

    def __init__(self) -> None:
        self._returns: deque[float] = deque(maxlen=WINDOW)
        self._lengths: deque[int] = deque(maxlen=WINDOW)
        self._successes: deque[float] = deque(maxlen=WINDOW)
        self._new_returns: list[float] = []
        self._new_lengths: list[int] = []
        self._metrics: dict[str, float] = {}
        self._changed = False

    def add(self, total: float, length: int, success: float | None = None) -> None:
        """Adds a finished episode.

        Args:
            total: Its return.
            length: Its steps.
            success: Whether the environment calls it a success: 0, 1 or between; None where it does not say.
        """
        self._changed = True
        self._returns.append(total)
        self._lengths.append(length)
        self._new_returns.append(total)
        self._new_lengths.append(length)
        if success is not None:
            self._successes.append(success)

    def drain(self) -> dict[str, float]:
        """Returns the mean return and length of the episodes added since the last call; empty for none."""
        if not self._new_returns:
            return {}
        values = {
            "episode_reward": sum(self._new_returns) / len(self._new_returns),
            "episode_length": sum(self._new_lengths) / len(self._new_lengths),
        }
        self._new_returns, self._new_lengths = [], []
        return values

    def metrics(self) -> dict[str, float]:
        """Returns the figures over the window under their canonical names; empty before the first episode's end."""
        if self._changed:
            self._changed = False
            self._metrics = {**_spread("episode_reward", self._returns), **_spread("episode_length", self._lengths)}
            if self._successes:
                self._metrics["success_rate"] = sum(self._successes) / len(self._successes)
        return dict(self._metrics)

    @property
    def mean_return(self) -> float | None:
        """The mean return over the window; None before the first episode's end."""
        return self.metrics().get("episode_reward_mean")


def _spread(name: str, values: deque[float] | deque[int]) -> dict[str, float]:
    array = np.array(values, dtype=np.float64)
    return {f"{name}_{how}": float(getattr(array, how)()) for how in ("mean", "std", "min", "max")}
