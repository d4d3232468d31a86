"""What is told of finished episodes: each one's own return and length, and figures over the last of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

import numpy as np

WINDOW: Final = 100
"""Finished episodes that a mean is taken over."""

NEW: Final = ("episode_reward", "episode_length")
"""What is told of new episodes."""

OF_WINDOW: Final = tuple(f"{figure}_{how}" for how in ("mean", "std", "min", "max") for figure in NEW)
"""What is told of the last ones."""

SUCCESS_RATE: Final = "success_rate"
"""And this, where the environment says whether they were successes."""


class FinishedEpisodes:
    """Returns, lengths and successes of the last `WINDOW` finished episodes, and what was not told of yet.

    Attributes:
        fresh: Whether any was added since the last call of `metrics`.
    """

    def __init__(self) -> None:
        self.fresh = False
        self._window = np.zeros((2, WINDOW))  # returns and lengths, each new one in the place of the oldest
        self._count = 0
        self._successes: deque[float] = deque(maxlen=WINDOW)
        self._new = 0
        self._new_return = 0.0
        self._new_length = 0
        self._metrics: dict[str, float] = {}

    def add(self, total: float, length: int, success: float | None = None) -> None:
        """Adds a finished episode.

        Args:
            total: Its return.
            length: Its steps.
            success: Whether the environment calls it a success: 0, 1 or between; None where it does not say.
        """
        self.fresh = True
        place = self._count % WINDOW
        self._window[0, place] = total
        self._window[1, place] = length
        self._count += 1
        self._new += 1
        self._new_return += total
        self._new_length += length
        if success is not None:
            self._successes.append(success)

    def drain(self) -> dict[str, float]:
        """Returns the mean return and length of the episodes added since the last call; empty for none."""
        count = self._new
        if not count:
            return {}
        values = dict(zip(NEW, (self._new_return / count, self._new_length / count), strict=True))
        self._new, self._new_return, self._new_length = 0, 0.0, 0
        return values

    def metrics(self) -> Mapping[str, float]:
        """Returns the figures over the window under their canonical names; empty before the first episode's end."""
        if self.fresh:
            self.fresh = False
            self._metrics = self._figures()
        return self._metrics

    @property
    def mean_return(self) -> float | None:
        """The mean return over the window; None before the first episode's end."""
        count = min(self._count, WINDOW)
        return float(np.add.reduce(self._window[0, :count]) / count) if count else None

    def _figures(self) -> dict[str, float]:
        # NumPy's reductions by their ufuncs: for so few numbers their wrappers would take most of the time.
        window = self._window[:, : self._count]
        count = window.shape[1]
        mean = np.add.reduce(window, axis=1) / count
        apart = window - mean[:, None]
        figures = (
            *mean.tolist(),
            *np.sqrt(np.add.reduce(apart * apart, axis=1) / count).tolist(),
            *np.minimum.reduce(window, axis=1).tolist(),
            *np.maximum.reduce(window, axis=1).tolist(),
        )
        values = dict(zip(OF_WINDOW, figures, strict=True))
        if self._successes:
            values[SUCCESS_RATE] = sum(self._successes) / len(self._successes)
        return values
