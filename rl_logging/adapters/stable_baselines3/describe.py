"""What a stable-baselines3 algorithm says about itself: its configuration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import stable_baselines3

from rl_logging.run.env_info import describe

_NO_HYPERPARAMETERS: Final = frozenset({"self", "env", "policy", "policy_kwargs", "seed", "_init_setup_model"})
_SCHEDULES: Final = frozenset({"learning_rate", "clip_range", "clip_range_vf", "delta_std"})
_MISSING: Final = object()


def configuration(model: Any) -> dict[str, Any]:
    """Returns what to log as configuration; its leaves may still be any objects.

    Args:
        model: The algorithm. What its constructor was given is read from its attributes; a schedule is shown by its
            value at the start of the training.
    """
    algo: dict[str, Any] = {
        "framework": "stable-baselines3",
        "framework_version": stable_baselines3.__version__,
        "class": type(model).__name__,
        "policy_class": getattr(getattr(model, "policy_class", None), "__name__", None),
        "policy_kwargs": _plain(getattr(model, "policy_kwargs", None) or {}),
    }
    for name in _constructor_arguments(type(model)):
        spellings = (name, f"_{name}", f"{name}_schedule")
        value = next((getattr(model, spelling) for spelling in spellings if hasattr(model, spelling)), _MISSING)
        if value is not _MISSING:
            algo[name] = _start_of(value) if name in _SCHEDULES else _plain(value)
    if "device" in algo:
        algo["device"] = str(algo["device"])
    values: dict[str, Any] = {"algo": algo, "num_envs": getattr(model, "n_envs", None)}
    described = describe(model.get_env())
    if described:
        values["env"] = described
    if getattr(model, "seed", None) is not None:
        values["seed"] = model.seed
    return values


def _constructor_arguments(kind: type) -> list[str]:
    """Returns the names a class and its bases take, in order; a base's where ``**kwargs`` hide them."""
    names: dict[str, None] = {}
    for cls in kind.__mro__:
        if "__init__" not in vars(cls) or cls is object:
            continue
        parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
        names.update({it.name: None for it in parameters if it.kind not in (it.VAR_POSITIONAL, it.VAR_KEYWORD)})
        if not any(it.kind is it.VAR_KEYWORD for it in parameters):
            break
    return [name for name in names if name not in _NO_HYPERPARAMETERS]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, type):
        return value.__name__
    return value


def _start_of(schedule: Any) -> Any:
    """Returns a schedule's value with all of the training still to come."""
    return float(schedule(1.0)) if callable(schedule) else schedule
