"""What an agent and its surroundings say about themselves, and whether this process is the one that logs."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from rl_logging.adapters.skrl.surroundings import Surroundings
from rl_logging.run import env_info

_TORCHS_DEFAULT_SEED = 67280421310721


def experiment_setting(agent: Any, name: str) -> Any:
    """Returns ``experiment.<name>`` of the agent's configuration (a dict in 1.x, dataclasses in 2.x), or None."""
    experiment = _get(getattr(agent, "cfg", None), "experiment")
    return _get(experiment, name)


def agent_configuration(agent: Any) -> dict[str, Any]:
    """Returns what to log as an agent's configuration; its leaves are still of skrl's types."""
    algo: dict[str, Any] = {"framework": "skrl", "class": type(agent).__name__}
    version = getattr(sys.modules.get("skrl"), "__version__", None)
    if version is not None:
        algo["skrl_version"] = str(version)
    for key, value in (
        ("cfg", _plain(getattr(agent, "cfg", None))),
        ("models", _class_names(getattr(agent, "models", None))),
        ("memory", _memory(agent)),
    ):
        if value:
            algo[key] = value
    if processes(agent) > 1:
        algo["processes"] = processes(agent)
    return algo


def surrounding_configuration(found: Surroundings, source: Any) -> dict[str, Any]:
    """Returns what to log of the trainer, the environment and the seed; its leaves are still of skrl's types.

    Args:
        found: The trainer and the environment, as far as they are known.
        source: What the agent was taken from: a Runner says which seed it has set.
    """
    values: dict[str, Any] = {}
    cfg = _plain(getattr(found.trainer, "cfg", None))
    if cfg:
        values["algo"] = {"trainer": {"class": type(found.trainer).__name__, **cfg}}
    if found.env is not None:
        with warnings.catch_warnings():  # Gymnasium warns of questions that its wrappers hand on
            warnings.simplefilter("ignore")
            described = env_info.describe(getattr(found.env, "_env", found.env))
            env_cfg = getattr(getattr(found.env, "unwrapped", found.env), "cfg", None)
        if env_cfg is not None and dataclasses.is_dataclass(env_cfg):  # Isaac Lab's
            described["cfg"] = _plain(env_cfg)
        values["env"] = described
    seed = _get(getattr(source, "_cfg", None), "seed")
    if not isinstance(seed, int) or isinstance(seed, bool):
        seed = _torchs_seed()
    if seed is not None:
        values["seed"] = seed
    return values


def memory_num_envs(agent: Any) -> int | None:
    """Returns the number of environments that the memory (a multi-agent's first one) was made for, or None."""
    num_envs = getattr(_first_memory(agent), "num_envs", None)
    return num_envs if isinstance(num_envs, int) and num_envs > 0 else None


def is_secondary(agent: Any) -> bool:
    """Returns whether this process is one of a distributed training that skrl logs nothing from."""
    distribution = _distribution(agent)
    return bool(getattr(distribution, "is_distributed", False) and getattr(distribution, "rank", 0))


def processes(agent: Any) -> int:
    """Returns in how many processes the agent is trained, each with environments of its own; 1 without skrl's word."""
    distribution = _distribution(agent)
    if not getattr(distribution, "is_distributed", False):
        return 1
    return max(1, int(getattr(distribution, "world_size", 1)))


def _distribution(agent: Any) -> Any:
    config = getattr(sys.modules.get("skrl"), "config", None)
    framework = "jax" if any(".jax" in cls.__module__ for cls in type(agent).__mro__) else "torch"
    return getattr(config, framework, None)


def _first_memory(agent: Any) -> Any:
    memory = getattr(agent, "memory", None)
    if isinstance(memory, (list, tuple)):  # 1.x takes more than one: the first is trained from
        memory = memory[0] if memory else None
    if memory is None:
        memory = next(iter((getattr(agent, "memories", None) or {}).values()), None)
    return memory


def _memory(agent: Any) -> dict[str, Any]:
    memory = _first_memory(agent)
    if memory is None:
        return {}
    return {"class": type(memory).__name__, "memory_size": getattr(memory, "memory_size", None)}


def _class_names(models: Any) -> Any:
    if isinstance(models, Mapping):
        return {str(key): _class_names(model) for key, model in models.items() if model is not None}
    return type(models).__name__ if models is not None else None


def _torchs_seed() -> int | None:
    # skrl keeps no seed: it gives it to torch.
    torch = sys.modules.get("torch")
    seed = torch.initial_seed() if torch is not None else _TORCHS_DEFAULT_SEED
    return None if seed == _TORCHS_DEFAULT_SEED else int(seed)


def _get(container: Any, name: str) -> Any:
    return container.get(name) if isinstance(container, Mapping) else getattr(container, name, None)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name, None)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, type):
        return value.__name__
    return value
