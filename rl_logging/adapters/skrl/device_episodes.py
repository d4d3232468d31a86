"""Counting episodes whose rewards lie on a CUDA device: there, while nobody waits for it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rl_logging.adapters.skrl.episodes import Episode, first_of, summed

Close = Callable[[Any], list[Episode]]
"""Given what a step has left on the device, once it is in the host's memory; returns the episodes that ended."""


class DeviceEpisodes:
    """Counts as `Episodes` does; returns are added up on the device, in float64.

    Args:
        resets_in_a_step: As for `Episodes`.
        under_way: As for `Episodes`.
    """

    def __init__(self, *, resets_in_a_step: bool, under_way: bool = False) -> None:
        self._resets_in_a_step = resets_in_a_step
        self._under_way = under_way
        self._returns: Any = None
        self._begun: _Begun | None = None
        self._count = 0

    def restart(self) -> None:
        """Forgets the unfinished episodes: the environments were reset from outside."""
        self._returns = None
        self._under_way = False

    def add(self, rewards: Any) -> None:
        """Adds one step's rewards; see `Episodes.add`."""
        if isinstance(rewards, Mapping):
            rewards = summed(rewards)
        rewards = rewards.detach()
        if self._returns is None:
            self._returns = rewards.new_zeros(rewards.shape).double()
            self._begun = _Begun(len(rewards), self._count, self._under_way, self._resets_in_a_step)
        self._count += 1
        self._returns.add_(rewards)

    def end(self, terminated: Any, truncated: Any) -> tuple[Any, Close]:
        """Ends the episodes that ended with the step added last; arguments as in `Episodes.end`.

        Returns:
            A tensor on the device, from which the second, called in the order of the steps, reads the episodes.
        """
        torch = sys.modules["torch"]
        assert self._begun is not None
        over = torch.logical_or(first_of(terminated), first_of(truncated)).detach()
        over = over.to(self._returns.device, non_blocking=True).reshape(self._returns.shape)
        left = torch.stack([self._returns.reshape(-1), over.reshape(-1).double()])
        self._returns.masked_fill_(over, 0.0)
        return left, functools.partial(self._begun.close, self._count)

    def unfinished(self) -> Any:
        """Returns the mean of what the present episodes have returned so far, on the device; None before any step."""
        return None if self._returns is None else self._returns.mean()


class _Begun:
    """In which step each environment's present episode began."""

    def __init__(self, num_envs: int, count: int, under_way: bool, resets_in_a_step: bool) -> None:
        self._starts = np.full(num_envs, count, dtype=np.int64)
        self._partial = np.full(num_envs, under_way)
        self._resets_in_a_step = resets_in_a_step

    def close(self, count: int, left: Any) -> list[Episode]:
        """Returns the episodes that ended with step `count`, of which `left` tells."""
        returns, over = left.numpy()
        indices = over.nonzero()[0]
        finished = [
            Episode(index, float(returns[index]), int(count - self._starts[index]))
            for index in indices.tolist()
            if not self._partial[index]
        ]
        self._starts[indices] = count + self._resets_in_a_step
        self._partial[indices] = False
        return finished
