"""Figures of a training that the adapter works out itself: its episodes, and how its time is spent."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from rl_logging.adapters.stable_baselines3.names import EPISODES_WINDOW


class Episodes:
    """Returns and lengths of the last finished episodes, as the ``Monitor`` wrapper counts them.

    Args:
        known: Episodes that finished before, as stable-baselines3 keeps them.
    """

    def __init__(self, known: Iterable[Mapping[str, Any]]) -> None:
        self._returns: deque[float] = deque(maxlen=EPISODES_WINDOW)
        self._lengths: deque[float] = deque(maxlen=EPISODES_WINDOW)
        for episode in known:
            self._add(episode)
        self.fresh = False

    def step(self, infos: Iterable[Mapping[str, Any]]) -> None:
        """Looks for finished episodes in one step's infos, one for each environment."""
        for info in infos:
            if "episode" in info:
                self._add(info["episode"])
                self.fresh = True

    def figures(self) -> dict[str, float]:
        """Returns mean, least and greatest under canonical names; empty before the first episode's end."""
        if not self._returns:
            return {}
        return {
            "episode_reward_mean": statistics.fmean(self._returns),
            "episode_reward_min": min(self._returns),
            "episode_reward_max": max(self._returns),
            "episode_length_mean": statistics.fmean(self._lengths),
            "episode_length_min": min(self._lengths),
            "episode_length_max": max(self._lengths),
        }

    def _add(self, episode: Mapping[str, Any]) -> None:
        self._returns.append(float(episode["r"]))
        self._lengths.append(float(episode["l"]))


class Progress:
    """Clocks rollouts and updates.

    Args:
        model: The algorithm.
    """

    def __init__(self, model: Any) -> None:
        self.iterations = 0
        self._model = model
        self._start_s = time.perf_counter()
        self._start_timesteps = model.num_timesteps
        self._updates = self._count_updates()
        self._rollout_start_s: float | None = None
        self._rollout_end_s: float | None = None
        self._rollouts_s: list[float] = []
        self._updates_s: list[float] = []

    def rollout_starts(self) -> None:
        """Starts a rollout's clock, and ends the update's."""
        self.update_ends()
        self._rollout_start_s = time.perf_counter()

    def rollout_ends(self) -> None:
        """Stops a rollout's clock; what follows is the update."""
        self._rollout_end_s = time.perf_counter()
        if self._rollout_start_s is not None:
            self._rollouts_s.append(self._rollout_end_s - self._rollout_start_s)
            self._rollout_start_s = None

    def update_ends(self) -> None:
        """Stops the update's clock, where there was an update."""
        if self._rollout_end_s is None:
            return
        updates = self._count_updates()
        if updates != self._updates:
            self._updates = updates
            self._updates_s.append(time.perf_counter() - self._rollout_end_s)
            self.iterations += 1
        self._rollout_end_s = None

    def times(self) -> dict[str, float]:
        """Returns the mean seconds of a rollout and an update since the last call, under canonical names."""
        figures = {}
        if self._rollouts_s:
            figures["rollout_time"] = statistics.fmean(self._rollouts_s)
        if self._updates_s:
            figures["learning_time"] = statistics.fmean(self._updates_s)
        if len(figures) == 2:
            figures["epoch_time"] = figures["rollout_time"] + figures["learning_time"]
        self._rollouts_s, self._updates_s = [], []
        return figures

    def fps(self) -> float:
        """Returns environment steps a second since the training began, as stable-baselines3 counts them."""
        steps = self._model.num_timesteps - self._start_timesteps
        return float(steps / max(time.perf_counter() - self._start_s, 1e-9))

    def _count_updates(self) -> Any:
        return getattr(self._model, "_n_updates", None)
