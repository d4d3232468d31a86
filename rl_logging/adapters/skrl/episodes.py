"""Counting finished episodes' returns and lengths from the transitions a skrl agent records.

skrl's own running figures cannot be used for this: they are cleared at each write, in 1.4.3 the end of any episode
also resets the first environment's sum, and where the environment takes a step to reset itself that step is counted.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final

import numpy as np

WINDOW: Final = 100
"""Finished episodes that a mean is taken over."""

_CALLERS = 3
_OURS = "rl_logging.adapters."


class Episodes:
    """Counts the episodes that go on, in all environments of an agent.

    Args:
        resets_in_a_step: Whether the step after an episode's end only resets the environment (Gymnasium's
            ``NEXT_STEP``); it belongs to no episode then.
        under_way: Whether the environments are in the middle of episodes, whose beginnings nobody has counted: those
            are left out.
    """

    def __init__(self, *, resets_in_a_step: bool, under_way: bool = False) -> None:
        self._resets_in_a_step = resets_in_a_step
        self._under_way = under_way
        self._partial = np.zeros(0, dtype=bool)
        self._returns: Any = None
        self._count = 0
        self._starts = np.zeros(0, dtype=np.int64)

    def restart(self) -> None:
        """Forgets the unfinished episodes: the environments were reset from outside."""
        self._returns = None
        self._under_way = False

    def add(self, rewards: Any) -> None:
        """Adds one step's rewards, of shape (num_envs, 1) or (num_envs,); a mapping of them is summed over agents.

        An array on a device stays there: nothing is waited for.
        """
        if isinstance(rewards, Mapping):
            rewards = sum(rewards.values())
        rewards = rewards.detach() if _on_device(rewards) else np.asarray(_host(rewards), dtype=np.float64)
        if self._returns is None:
            self._returns = rewards * 0
            self._starts = np.full(len(rewards), self._count, dtype=np.int64)
            self._partial = np.full(len(rewards), self._under_way)
        self._count += 1
        self._returns += rewards

    def end(self, terminated: Any, truncated: Any) -> list[tuple[float, int]]:
        """Returns (return, length) of each episode that ended with the step added last.

        Waits for the device the rewards are on, so ask only when something ended.

        Args:
            terminated: Whether an episode ended by its task, of shape (num_envs, 1) or (num_envs,); of a mapping the
                first agent's counts, as in skrl.
            truncated: Whether it was cut off; likewise.
        """
        ended = [_host(_first(flags)).reshape(-1).astype(bool) for flags in (terminated, truncated)]
        indices = np.flatnonzero(ended[0] | ended[1])
        if not len(indices):
            return []
        returns = _host(self._returns).reshape(-1)
        whole = [index for index in indices if not self._partial[index]]
        finished = [(float(returns[index]), int(self._count - self._starts[index])) for index in whole]
        self._returns[indices] = 0
        self._starts[indices] = self._count + self._resets_in_a_step
        self._partial[indices] = False
        return finished


class FinishedEpisodes:
    """Returns and lengths of the last `WINDOW` finished episodes."""

    def __init__(self) -> None:
        self._returns: deque[float] = deque(maxlen=WINDOW)
        self._lengths: deque[int] = deque(maxlen=WINDOW)
        self._metrics: dict[str, float] | None = {}

    def add(self, episode_return: float, length: int) -> None:
        """Adds a finished episode."""
        self._metrics = None
        self._returns.append(episode_return)
        self._lengths.append(length)

    def metrics(self) -> dict[str, float]:
        """Returns means, minima and maxima under their canonical names; empty before the first episode's end."""
        if self._metrics is None:
            self._metrics = {
                "episode_reward_mean": math.fsum(self._returns) / len(self._returns),
                "episode_reward_min": min(self._returns),
                "episode_reward_max": max(self._returns),
                "episode_length_mean": sum(self._lengths) / len(self._lengths),
                "episode_length_min": float(min(self._lengths)),
                "episode_length_max": float(max(self._lengths)),
            }
        return dict(self._metrics)


def resets_in_a_step(env: Any) -> bool | None:
    """Returns whether `env` (wrapped by skrl or not) spends a step on resetting itself; None where it does not say."""
    metadata = getattr(env, "metadata", None)
    mode = metadata.get("autoreset_mode") if isinstance(metadata, Mapping) else None
    if mode is not None:
        return str(getattr(mode, "value", mode)) == "NextStep"
    gymnasium = sys.modules.get("gymnasium")
    if gymnasium is None or not isinstance(getattr(env, "_env", env), gymnasium.vector.VectorEnv):
        return None
    # Before 1.1 there was no word for it: 0.x resets in the same step, 1.0 in the next.
    return str(gymnasium.__version__).startswith("1.0")


def env_of_caller() -> Any:
    """Returns the environment that the training loop in whose call we are steps, or None.

    An agent does not know its environment, its trainer does: this looks for ``self.env`` or ``env`` in the loop that
    hands the agent its transitions, and in a few callers of it.
    """
    frame: FrameType | None = sys._getframe(1)
    looked_at = 0
    while frame is not None and looked_at < _CALLERS:
        if not frame.f_globals.get("__name__", "").startswith(_OURS):
            looked_at += 1
            names = frame.f_locals
            for env in (getattr(names.get("self"), "env", None), names.get("env")):
                if env is not None and hasattr(env, "step"):
                    return env
        frame = frame.f_back
    return None


def _first(flags: Any) -> Any:
    return next(iter(flags.values())) if isinstance(flags, Mapping) else flags


def _on_device(values: Any) -> bool:
    # Only torch's tensors can be added to in place, so JAX's and Warp's arrays are read.
    return hasattr(values, "detach") and values.device.type != "cpu"


def _host(values: Any) -> np.ndarray[Any, Any]:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return np.asarray(values)
