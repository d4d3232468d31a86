"""Bringing the best home: from many runs, in a store or in run directories alone, to the one checkpoint you keep."""

from __future__ import annotations

from rl_logging.retrieval.best import BestCheckpoint, best_checkpoint, get_top_run, load_best
from rl_logging.retrieval.errors import NoCheckpointError, NoExperimentError, NoMetricError, NoRunError
from rl_logging.retrieval.opening import open_store
from rl_logging.retrieval.ranking import RankedRun, find_runs, list_experiments, rank
from rl_logging.stores import StoreError

__all__ = [
    "BestCheckpoint",
    "NoCheckpointError",
    "NoExperimentError",
    "NoMetricError",
    "NoRunError",
    "RankedRun",
    "StoreError",
    "best_checkpoint",
    "find_runs",
    "get_top_run",
    "list_experiments",
    "load_best",
    "open_store",
    "rank",
]
