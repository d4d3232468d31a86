"""Ray Tune: a sweep is a run, and each of its trials a run below that."""

from __future__ import annotations

from rl_logging.adapters.ray_tune.callback import ExperimentLoggerCallback
from rl_logging.adapters.ray_tune.mlflow_callback import MLflowLoggerCallback

__all__ = ["ExperimentLoggerCallback", "MLflowLoggerCallback"]
