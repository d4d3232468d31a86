"""Counting episodes' returns and lengths from the transitions a skrl agent records.

skrl's own running figures cannot be used for this: they are cleared at each write, in 1.4.3 the end of any episode
also resets the first environment's sum, and where the environment takes a step to reset itself that step is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

_FEW: Final = 16
"""Numbers that Python adds up in less time than a ufunc takes to begin with."""


class Episode(NamedTuple):
    """A finished episode.

    Attributes:
        env: Which environment it was in, by number.
        total: The sum of its rewards.
        length: How many steps it took.
    """

    env: int
    total: float
    length: int


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
        self._in_torch = False
        self._on_host: np.ndarray[Any, Any] | None = None  # the returns' own memory, where that is the host's
        self._of_several = False
        self._count = 0
        self._starts = np.zeros(0, dtype=np.int64)

    def restart(self) -> None:
        """Forgets the unfinished episodes: the environments were reset from outside."""
        self._returns = None
        self._under_way = False

    def add(self, rewards: Any) -> None:
        """Adds one step's rewards, of shape (num_envs, 1) or (num_envs,); a mapping of them is summed over agents.

        A tensor on a device stays there: nothing is waited for. For CUDA's there is `DeviceEpisodes`.
        """
        if self._returns is None:
            self._begin(rewards)
        if self._of_several:
            rewards = summed(rewards)
        self._count += 1
        if self._in_torch:
            self._returns.add_(rewards.detach() if rewards.requires_grad else rewards)
        else:
            self._returns += _host(rewards)

    def end(self, terminated: Any, truncated: Any) -> list[Episode]:
        """Returns each episode that ended with the step added last.

        Waits for the device the rewards are on, so ask only when something ended.

        Args:
            terminated: Whether an episode ended by its task, of shape (num_envs, 1) or (num_envs,); of a mapping the
                first agent's counts, as in skrl.
            truncated: Whether it was cut off; likewise.
        """
        ended = np.logical_or(_host(first_of(terminated)), _host(first_of(truncated)))
        indices = ended.reshape(-1).nonzero()[0]
        if not len(indices):
            return []
        returns = self._on_host if self._on_host is not None else _host(self._returns).reshape(-1)
        finished = [
            Episode(index, float(returns[index]), int(self._count - self._starts[index]))
            for index in indices.tolist()
            if not self._partial[index]
        ]
        (self._returns if self._on_host is None else self._on_host)[indices] = 0
        self._starts[indices] = self._count + self._resets_in_a_step
        self._partial[indices] = False
        return finished

    def unfinished(self) -> float | None:
        """Returns the mean, over the environments, of what the present episodes have returned so far.

        None before the first step. Waits for the device the rewards are on.
        """
        if self._returns is None:
            return None
        returns = self._on_host if self._on_host is not None else _host(self._returns).reshape(-1)
        if returns.size <= _FEW:
            return float(sum(returns.tolist()) / returns.size)
        return float(np.add.reduce(returns) / returns.size)

    def _begin(self, rewards: Any) -> None:
        self._of_several = isinstance(rewards, Mapping)
        if self._of_several:
            rewards = summed(rewards)
        # Only torch's tensors can be added to in place, so JAX's and Warp's arrays are read. Torch's on the host are
        # added to by torch too: to a float64 array of its own NumPy adds float32 in several times that time.
        self._in_torch = hasattr(rewards, "detach")
        if not self._in_torch:
            self._returns = np.zeros(np.shape(_host(rewards)), dtype=np.float64)
            self._on_host = self._returns.reshape(-1)
        elif _on_device(rewards):
            self._returns = rewards.new_zeros(rewards.shape).float()  # not every device has float64
            self._on_host = None
        else:
            self._returns = rewards.new_zeros(rewards.shape).double()
            self._on_host = self._returns.numpy().reshape(-1)
        self._starts = np.full(len(rewards), self._count, dtype=np.int64)
        self._partial = np.full(len(rewards), self._under_way)


def summed(rewards: Mapping[Any, Any]) -> Any:
    """Returns the sum of all agents' rewards."""
    return sum(rewards.values())


def first_of(flags: Any) -> Any:
    """Returns the flags of the first agent, where they are a mapping of agents."""
    return next(iter(flags.values())) if isinstance(flags, Mapping) else flags


def _on_device(tensor: Any) -> bool:
    return bool(tensor.device.type != "cpu")


def _host(values: Any) -> np.ndarray[Any, Any]:
    if not hasattr(values, "detach"):
        return np.asarray(values)
    if values.requires_grad:
        values = values.detach()
    return (values if values.is_cpu else values.cpu()).numpy()  # type: ignore[no-any-return]
