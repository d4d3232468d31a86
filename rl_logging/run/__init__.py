"""A run as the training process holds it, and what its verbs are made of."""

from __future__ import annotations

from rl_logging.run.journaled import JournaledRun, NullRun, Run

__all__ = ["JournaledRun", "NullRun", "Run"]
