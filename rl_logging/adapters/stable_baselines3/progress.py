"""Figures of a training that the adapter works out itself: its episodes, and how its time is spent."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping
from time import perf_counter
from typing import Any, Final

import numpy as np

from rl_logging.adapters.gradients import GradientNorms
from rl_logging.adapters.stable_baselines3.names import EPISODE_LENGTH_KEY, EPISODE_REWARD_KEY, EPISODES_WINDOW
from rl_logging.adapters.stable_baselines3.plain import plain

_OF_EACH: Final = frozenset({"r", "l", "t"})
"""What ``Monitor`` notes of each episode: return, length, and seconds since it was made."""


class Episodes:
    """Returns and lengths of the finished episodes, as the ``Monitor`` wrapper counts them.

    Args:
        model: The algorithm; the means begin with the episodes that it still knows.

    Attributes:
        fresh: Whether any has finished since whoever logs the means has set it back.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._returns: deque[float] = deque(maxlen=EPISODES_WINDOW)
        self._lengths: deque[float] = deque(maxlen=EPISODES_WINDOW)
        self._candidates = 0
        for episode in getattr(model, "ep_info_buffer", None) or ():
            self._returns.append(float(episode["r"]))
            self._lengths.append(float(episode["l"]))
        self.fresh = False

    def add(self, episode: Mapping[str, Any]) -> dict[str, Any]:
        """Adds a finished episode, which says so in an environment's infos; returns what is logged of it, by key.

        That is its return, its length, and what else ``Monitor`` was told to note of it: its ``info_keywords``.
        """
        episode_return, length = float(episode["r"]), float(episode["l"])
        self._returns.append(episode_return)
        self._lengths.append(length)
        self.fresh = True
        told: dict[str, Any] = {EPISODE_REWARD_KEY: episode_return, EPISODE_LENGTH_KEY: length}
        if len(episode) > len(_OF_EACH):
            told.update((key, plain(value)) for key, value in episode.items() if _is_noted(key, value))
        return told

    def evaluation_starts(self) -> None:
        """Told that the algorithm begins to evaluate candidates, and has forgotten those before."""
        self._candidates = 0

    def of_candidates(self) -> list[Mapping[str, Any]]:
        """Returns the episodes of the candidates evaluated since the last call, which are yet to be added."""
        known = len(self._model.ep_info_buffer)
        if known == self._candidates:
            return []
        episodes = list(self._model.ep_info_buffer)[self._candidates :]
        self._candidates = known
        return episodes

    def figures(self) -> dict[str, float]:
        """Returns mean, deviation, least and greatest under canonical names; empty before the first episode's end."""
        if not self._returns:
            return {}
        return {**_spread("episode_reward", self._returns), **_spread("episode_length", self._lengths)}


def _is_noted(key: str, value: Any) -> bool:
    return key not in _OF_EACH and isinstance(value, (float, int, np.floating, np.integer, np.bool_))


def _spread(name: str, values: Collection[float]) -> dict[str, float]:
    # No fsum: of infinities, which an environment may well give, it raises.
    mean = sum(values) / len(values)
    return {
        f"{name}_mean": mean,
        f"{name}_std": math.dist(tuple(values), (mean,) * len(values)) / math.sqrt(len(values)),
        f"{name}_min": min(values),
        f"{name}_max": max(values),
    }


class _Mean:
    def __init__(self) -> None:
        self.count = 0
        self._total = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self._total += value

    def drain(self) -> float:
        """Returns the mean of what was added since the last call, of which there must be something."""
        mean = self._total / self.count
        self.count, self._total = 0, 0.0
        return mean


class Aside:
    """Clocks what is done besides training, inside its ``with``: an evaluation, say. It may stand within another.

    Attributes:
        seconds: How long it has taken so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        self._since_s = 0.0

    def __enter__(self) -> None:
        if not self._depth:
            self._since_s = perf_counter()
        self._depth += 1

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.seconds += perf_counter() - self._since_s


class Progress:
    """Clocks rollouts and updates, and listens to the norms of the gradients that an update clips.

    Args:
        model: The algorithm.
        aside: What is not counted.

    Attributes:
        iterations: Rollouts with an update so far.
        fresh: Whether there is anything new since the last call of `figures`.
    """

    def __init__(self, model: Any, aside: Aside) -> None:
        self.iterations = 0
        self.fresh = False
        self._model = model
        self._aside = aside
        self._start_s = perf_counter() - aside.seconds
        self._start_timesteps = model.num_timesteps
        self._updates = self._count_updates()
        self._rollout_start_s: float | None = None
        self._rollout_end_s: float | None = None
        self._rollouts = _Mean()
        self._learning = _Mean()
        # Those that clip have that; others would only pay for the listening.
        self._norms = GradientNorms() if hasattr(model, "max_grad_norm") else None

    def begin(self) -> None:
        """Begins to listen, which must be ended."""
        if self._norms is not None:
            self._norms.start()
            self._norms.pause()

    def end(self) -> None:
        """Ends the update's clock, and the listening. Idempotent."""
        self.update_may_have_ended()
        self._rollout_end_s = None
        if self._norms is not None:
            self._norms.stop()

    def rollout_starts(self) -> None:
        """Starts a rollout's clock, and ends the update's."""
        self._rollout_start_s = self.update_may_have_ended()
        self._rollout_end_s = None
        if self._norms is not None:
            self._norms.pause()

    def rollout_ends(self) -> None:
        """Stops a rollout's clock; what follows is the update."""
        self._rollout_end_s = now = perf_counter() - self._aside.seconds
        if self._rollout_start_s is not None:
            self.fresh = True
            self._rollouts.add(now - self._rollout_start_s)
            self._rollout_start_s = None
        if self._norms is not None:
            self._norms.resume()

    def update_may_have_ended(self) -> float:
        """Stops the update's clock if there was an update, else it goes on: one may still come.

        Returns:
            What the clock shows.
        """
        now = perf_counter() - self._aside.seconds
        if self._rollout_end_s is not None:
            updates = self._count_updates()
            if updates != self._updates:
                self.fresh = True
                self._updates = updates
                self._learning.add(now - self._rollout_end_s)
                self.iterations += 1
                self._rollout_end_s = None
        return now

    def figures(self) -> dict[str, float]:
        """Returns what is new since the last call, under canonical names.

        The mean seconds of a rollout and of an update, and the mean norm of a gradient before its clipping.
        """
        self.fresh = False
        figures = {}
        if self._rollouts.count:
            figures["rollout_time"] = self._rollouts.drain()
        if self._learning.count:
            figures["learning_time"] = self._learning.drain()
        if len(figures) == 2:
            figures["epoch_time"] = figures["rollout_time"] + figures["learning_time"]
        norm = None if self._norms is None else self._norms.drain()
        if norm is not None:
            figures["grad_norm"] = norm
        return figures

    def counters(self, step: int) -> dict[str, float]:
        """Returns what is counted: the run's step, the environment steps a second of training, and iterations."""
        seconds = perf_counter() - self._aside.seconds - self._start_s
        steps = self._model.num_timesteps - self._start_timesteps
        return {
            "timesteps": float(step),
            "fps": float(steps / max(seconds, 1e-9)),
            "iterations": float(self.iterations),
        }

    def _count_updates(self) -> Any:
        return getattr(self._model, "_n_updates", None)
