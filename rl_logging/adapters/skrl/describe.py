"""What an agent says about itself: its configuration, its number of environments, whether it logs in this process."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any


def experiment_setting(agent: Any, name: str) -> Any:
    """Returns ``experiment.<name>`` of the agent's configuration (a dict in 1.x, dataclasses in 2.x), or None."""
    experiment = _get(getattr(agent, "cfg", None), "experiment")
    return _get(experiment, name)


def configuration(agent: Any, runner: Any, num_envs: int | None) -> dict[str, Any]:
    """Returns what to log as configuration; its leaves are still of skrl's types.

    Args:
        agent: The agent.
        runner: The Runner it was taken from, or None.
        num_envs: Number of environments, or None where it is not known yet.
    """
    algo: dict[str, Any] = {"framework": "skrl", "class": type(agent).__name__}
    version = getattr(sys.modules.get("skrl"), "__version__", None)
    if version is not None:
        algo["skrl_version"] = str(version)
    cfg = _plain(getattr(agent, "cfg", None))
    if cfg:
        algo["cfg"] = cfg
    if num_envs is not None:
        algo["num_envs"] = num_envs
    values: dict[str, Any] = {"algo": algo}
    seed = _get(getattr(runner, "_cfg", None), "seed")
    if isinstance(seed, int) and not isinstance(seed, bool):
        values["seed"] = seed
    return values


def memory_num_envs(agent: Any) -> int | None:
    """Returns the number of environments that the memory (a multi-agent's first one) was made for, or None."""
    memory = getattr(agent, "memory", None)
    if memory is None:
        memory = next(iter((getattr(agent, "memories", None) or {}).values()), None)
    num_envs = getattr(memory, "num_envs", None)
    return num_envs if isinstance(num_envs, int) and num_envs > 0 else None


def is_secondary(agent: Any) -> bool:
    """Returns whether this process is one of a distributed training that skrl logs nothing from."""
    config = getattr(sys.modules.get("skrl"), "config", None)
    framework = "jax" if any(".jax" in cls.__module__ for cls in type(agent).__mro__) else "torch"
    distribution = getattr(config, framework, None)
    return bool(getattr(distribution, "is_distributed", False) and getattr(distribution, "rank", 0))


def _get(container: Any, name: str) -> Any:
    return container.get(name) if isinstance(container, Mapping) else getattr(container, name, None)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, type):
        return value.__name__
    return value
