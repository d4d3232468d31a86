"""A run as the training process holds it, and what its verbs are made of."""

from __future__ import annotations

from rl_logging.run.interface import Run
from rl_logging.run.journaled import JournaledRun
from rl_logging.run.null import NullRun

__all__ = ["JournaledRun", "NullRun", "Run"]
