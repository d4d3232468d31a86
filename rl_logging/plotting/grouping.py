"""Which runs are seeds of one setting, told from their configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rl_logging.stores import RunInfo

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "algorithm": ("algo/class", "algorithm", "algo/name", "algo", "agent/class"),
    "framework": ("algo/framework", "ml_framework", "framework"),
    "env": ("env/id", "env_id", "env/name", "task", "env"),
}
"""Words for what configurations call differently; the first one that a run has is taken."""

DEFAULT: Final = ("framework", "algorithm", "env")

_NO_SETTINGS: Final = frozenset({"seed", "rl_logging", "mlflow", "wandb"})
_DIFFERENCES_MOST: Final = 4

Setting = tuple[str, ...]


def default_keys(runs: Sequence[RunInfo]) -> tuple[str, ...]:
    """Returns what to tell settings apart by: the runs' groups where all have one, else what was trained where.

    Runs below a parent have its group whatever they try. So of those what counts, too, is where their configurations
    differ, but for the seed; or their names, where that is in many places.
    """
    keys = ("group",) if runs and all(run.group for run in runs) else DEFAULT
    if not any(run.parent for run in runs):
        return keys
    configs = [flattened(run.config) for run in runs]
    paths = sorted({path for config in configs for path in config if _NO_SETTINGS.isdisjoint(path.split("/"))})
    differing = [path for path in paths if len({config.get(path) for config in configs}) > 1]
    return (*keys, *differing) if len(differing) <= _DIFFERENCES_MOST else (*keys, "name")


def setting_of(run: RunInfo, keys: Sequence[str]) -> tuple[str, ...]:
    """Returns a run's values of some keys, as text; empty for what it does not say.

    Args:
        run: The run.
        keys: ``group``, ``name``, ``experiment``, ``status``, one of `ALIASES`, or a path in the configuration such as
            ``algo/cfg/learning_rate`` (dots do as well).
    """
    flat = flattened(run.config)
    return tuple(_value(run, flat, key) for key in keys)


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns a nested configuration flat, with ``/`` in the keys and values as text."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}/")
        elif value is not None:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _value(run: RunInfo, flat: Mapping[str, str], key: str) -> str:
    if key in ("group", "name", "experiment", "status"):
        return str(getattr(run, key) or "")
    for path in ALIASES.get(key, (key, key.replace(".", "/"))):
        if path in flat:
            return flat[path]
    return ""
