"""What a training environment tells of itself, whatever library it comes from; it is never changed."""

from __future__ import annotations

import warnings
from typing import Any

from rl_logging.jsonable import json_safe


def num_envs_of(env: object) -> int | None:
    """Returns how many environments `env` steps at once; 1 for one without `num_envs`, None for no environment."""
    if env is None:
        return None
    count = _peek(env, "num_envs")
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 1 else 1


def spec_of(env: object) -> Any:
    """Returns the environment's Gymnasium spec, from which another of its kind can be made; None where it has none."""
    spec = getattr(env, "spec", None)
    if spec is None and hasattr(env, "get_attr"):
        try:
            spec = env.get_attr("spec")[0]
        except Exception:  # a vector environment of the user's may answer anything to a name it does not know
            spec = None
    return spec


def _peek(env: object, name: str) -> Any:
    """Returns an attribute that the environment may lack; older wrappers warn of passing such a question on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(env, name, None)


def describe(env: object) -> dict[str, Any]:
    """Returns the environment's part of the configuration: id, number, keyword arguments, limits and spaces."""
    if env is None:
        return {}
    spec = spec_of(env)
    described: dict[str, Any] = {"num_envs": num_envs_of(env), "class": type(env).__qualname__}
    for key, attribute in (("id", "id"), ("kwargs", "kwargs"), ("max_episode_steps", "max_episode_steps")):
        value = getattr(spec, attribute, None)
        if value not in (None, {}):
            described[key] = value
    for key in ("observation_space", "action_space"):
        single = _peek(env, f"single_{key}")
        space = single if single is not None else getattr(env, key, None)
        if space is not None:
            described[key] = str(space)
    safe = json_safe(described)
    assert isinstance(safe, dict)
    return safe
