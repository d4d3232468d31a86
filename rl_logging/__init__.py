"""A pluggable, multi-backend experiment logger for reinforcement learning.

Nothing is lost, and training never waits: a log call is one append to a journal in the run directory; another process
delivers it to MLflow, Weights & Biases, and whatever sink a plugin makes.
"""

from __future__ import annotations

__version__ = "0.1.0"

from rl_logging.extraction import register_converter
from rl_logging.logger import ExperimentLogger
from rl_logging.run.saved_model import SavedModel
from rl_logging.run.summary import DestinationStatus
from rl_logging.settings.sections import SettingsError

__all__ = [
    "DestinationStatus",
    "ExperimentLogger",
    "SavedModel",
    "SettingsError",
    "__version__",
    "register_converter",
]
