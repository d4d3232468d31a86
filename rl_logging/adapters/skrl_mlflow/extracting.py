"""From an agent's tracked data and attributes to metrics."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final

from rl_logging.extraction.values import aggregate

log = logging.getLogger("rl_logging")

ATTRIBUTES: Final = (
    *("episode_reward", "episode_reward_mean", "episode_length", "episode_length_mean", "episode_lengths"),
    *("cumulative_rewards", "mean_rewards", "success_rate"),
    *("policy_loss", "value_loss", "critic_loss", "entropy"),
    *("learning_rate", "lr", "grad_norm", "gradient_norm", "kl_divergence", "kl"),
    *("timesteps", "timesteps_total", "total_timesteps", "iterations", "iterations_total", "fps"),
    *("time_elapsed", "epoch_time", "rollout_time", "learning_time"),
)
"""Attributes of an agent that are metrics of the same name."""


def extract_from_value(name: str, value: object, metrics: MutableMapping[str, float]) -> None:
    """Adds a value to `metrics`: one element as `name`, more as ``name/mean``, ``/std``, ``/min`` and ``/max``.

    None, what has no element, and what does not convert to numbers are left out.

    Args:
        name: The metric's name.
        value: A number, an array, a tensor or a sequence of numbers.
        metrics: Changed in place.
    """
    if value is None:
        return
    try:
        metrics.update(aggregate(name, value))
    except TypeError as error:
        log.debug("%s is no metric: %s", name, error)


def extract_from_tracking_data(
    data: Mapping[str, object], metrics: MutableMapping[str, float], prefix: str = "", max_depth: int = 2
) -> None:
    """Adds everything in `data` to `metrics`; a mapping within becomes ``key/...``.

    Args:
        data: Names to values, or to mappings of the same kind.
        metrics: Changed in place.
        prefix: What stands before each name, its slash included.
        max_depth: How many levels are read; what lies deeper is left out.
    """
    if max_depth <= 0:
        return
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            extract_from_tracking_data(value, metrics, f"{name}/", max_depth - 1)
        else:
            extract_from_value(name, value, metrics)


def attributes(agent: object) -> Iterator[tuple[str, Any]]:
    """Yields what `agent` has of `ATTRIBUTES`; methods and None are left out."""
    for name in ATTRIBUTES:
        value = getattr(agent, name, None)
        if value is not None and not callable(value):
            yield name, value


class TrackedValues:
    """Reads the ``tracking_data`` of an agent that is not skrl's: nobody says when it is cleared, if ever.

    A list is a series over time. Where it has grown since the last reading, its new part counts; else it counts as a
    whole, as does everything that is no list.

    Args:
        agent: The agent.
    """

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self._known: dict[str, tuple[object, int]] = {}

    def read(self) -> Iterator[tuple[str, Any]]:
        """Yields each name with one value after the other."""
        for tag, value in list(self._agent.tracking_data.items()):
            if not isinstance(value, list):
                yield str(tag), value
                continue
            known, count = self._known.get(tag, (None, 0))
            start = count if known is value and count < len(value) else 0
            self._known[tag] = (value, len(value))
            for entry in value[start:]:
                yield str(tag), entry
