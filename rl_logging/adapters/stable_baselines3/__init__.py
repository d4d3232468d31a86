"""Logging what stable-baselines3 trains."""

from __future__ import annotations

try:
    import stable_baselines3  # noqa: F401  told of here, once, and not from wherever it is needed first
except ImportError as error:
    raise ImportError(
        f"logging a stable-baselines3 training needs stable-baselines3 ({error}): pip install 'rl-logging[sb3]'",
        name=error.name,
    ) from error

from rl_logging.adapters.stable_baselines3.callbacks import make_callbacks
from rl_logging.adapters.stable_baselines3.metrics_callback import MetricsCallback

__all__ = ["MetricsCallback", "make_callbacks"]
