"""What is told of finished episodes: each one's own return and length, and figures over the last of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

import numpy as np

WINDOW: Final = 100
"""Finished episodes that a mean is taken over."""


class FinishedEpisodes:
    """Returns, lengths and successes of the last `WINDOW` finished episodes, and what was not told of yet."""

    def __init__(self) -> None:
        self._window = np.zeros((2, WINDOW))  # returns and lengths, each new one in the place of the oldest
        self._count = 0
        self._successes: deque[float] = deque(maxlen=WINDOW)
        self._new: list[tuple[float, int]] = []
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
        self._window[:, self._count % WINDOW] = total, length
        self._count += 1
        self._new.append((total, length))
        if success is not None:
            self._successes.append(success)

    def drain(self) -> dict[str, float]:
        """Returns the mean return and length of the episodes added since the last call; empty for none."""
        if not self._new:
            return {}
        returns, lengths = zip(*self._new, strict=True)
        self._new = []
        return {"episode_reward": sum(returns) / len(returns), "episode_length": sum(lengths) / len(lengths)}

    def metrics(self) -> Mapping[str, float]:
        """Returns the figures over the window under their canonical names; empty before the first episode's end."""
        if self._changed:
            self._changed = False
            self._metrics = self._figures()
        return self._metrics

    @property
    def mean_return(self) -> float | None:
        """The mean return over the window; None before the first episode's end."""
        return self.metrics().get("episode_reward_mean")

    def _figures(self) -> dict[str, float]:
        # NumPy's reductions by their ufuncs: for so few numbers their wrappers would take most of the time.
        window = self._window[:, : self._count]
        count = window.shape[1]
        mean = np.add.reduce(window, axis=1) / count
        apart = window - mean[:, None]
        spread = {
            "mean": mean,
            "std": np.sqrt(np.add.reduce(apart * apart, axis=1) / count),
            "min": np.minimum.reduce(window, axis=1),
            "max": np.maximum.reduce(window, axis=1),
        }
        values = {}
        for how, figures in spread.items():
            values[f"episode_reward_{how}"], values[f"episode_length_{how}"] = figures.tolist()
        if self._successes:
            values["success_rate"] = sum(self._successes) / len(self._successes)
        return values
