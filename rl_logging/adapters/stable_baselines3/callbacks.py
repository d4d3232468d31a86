"""The callbacks that a run asks for."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from rl_logging.adapters.stable_baselines3.metrics_callback import MetricsCallback


def make_callbacks(logger: Any, **options: Any) -> list[BaseCallback]:
    """Returns the callbacks that log a training, for ``model.learn(callback=...)``.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        **options: See `MetricsCallback`.
    """
    return [MetricsCallback(logger, **options)]
