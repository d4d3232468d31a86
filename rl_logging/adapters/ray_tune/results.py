"""From a result as Ray Tune has it to a step and flat figures."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any, Final

BOOKKEEPING: Final = frozenset(
    {
        "config",
        "date",
        "done",
        "experiment_id",
        "experiment_tag",
        "hostname",
        "node_ip",
        "pid",
        "should_checkpoint",
        "checkpoint_dir_name",
        "timestamp",
        "trial_id",
        "trial_name",
    }
)
"""Keys by which Ray Tune itself keeps its books: these are no metrics."""

_HIDDEN: Final = "__"
DEEPEST: Final = 16


def step_of(result: Mapping[str, Any]) -> int | None:
    """Returns a result's step: the environment steps so far, or else the training's iterations."""
    for key in ("timesteps_total", "num_env_steps_sampled_lifetime", "training_iteration"):
        value = result.get(key)
        figure = _number(value)
        if figure is not None and math.isfinite(figure) and figure > 0:
            return int(figure)
    return None


def figures(result: Mapping[str, Any]) -> dict[str, float]:
    """Returns a result's numbers, nested mappings flattened with ``/``, without the bookkeeping."""
    own = {key: value for key, value in result.items() if key not in BOOKKEEPING}
    return dict(_leaves(own, "", DEEPEST))


def parameters(config: Any) -> dict[str, Any]:
    """Returns a trial's configuration without what Ray Tune put there."""
    plain = config.to_dict() if hasattr(config, "to_dict") else config
    if not isinstance(plain, Mapping):
        return {}
    return {str(key): value for key, value in plain.items() if not str(key).startswith(_HIDDEN)}


def _leaves(values: Mapping[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if depth > 0:
                yield from _leaves(value, f"{name}/", depth - 1)
        elif not isinstance(value, bool) and not str(key).startswith(_HIDDEN):
            figure = _number(value)
            if figure is not None:
                yield name, figure


def _number(value: Any) -> float | None:
    """Returns a scalar of any library as a float; None for anything else, such as a histogram."""
    if isinstance(value, numbers.Real):
        return float(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        item = value.item()
        return float(item) if isinstance(item, (int, float)) and not isinstance(item, bool) else None
    return None
