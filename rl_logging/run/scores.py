"""What a run's evaluations came to."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from typing import Final

NAMES: Final = ("eval/episode_reward_mean", "eval/mean_reward")
MOST: Final = 10


class Scores:
    """The mean returns of a run's last evaluations."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=MOST)

    def note(self, values: Mapping[str, float]) -> None:
        """Looks for an evaluation's mean return among metrics; under both names it is the same one."""
        for name in NAMES:
            if name in values:
                self._last.append(values[name])
                return

    def mean(self) -> float | None:
        """Returns their mean; None without any."""
        return statistics.fmean(self._last) if self._last else None
