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
from rl_logging.adapters.stable_baselines3.checkpoint_callback import CheckpointCallback
from rl_logging.adapters.stable_baselines3.eval_callback import EvalCallback
from rl_logging.adapters.stable_baselines3.experiment_callback import ExperimentCallback
from rl_logging.adapters.stable_baselines3.loading import load_checkpoint
from rl_logging.adapters.stable_baselines3.metrics_callback import MetricsCallback
from rl_logging.adapters.stable_baselines3.run_callback import RunCallback
from rl_logging.adapters.stable_baselines3.video_callback import VideoRecorderCallback

WandbCallback = MetricsCallback
"""The name that another logger has for it; it logs to every store of the run."""

__all__ = [
    "CheckpointCallback",
    "EvalCallback",
    "ExperimentCallback",
    "MetricsCallback",
    "RunCallback",
    "VideoRecorderCallback",
    "WandbCallback",
    "load_checkpoint",
    "make_callbacks",
]
