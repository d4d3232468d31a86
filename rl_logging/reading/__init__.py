"""Getting at what was logged, from run directories alone: no store, no SDK, also while the run goes on."""

from __future__ import annotations

from rl_logging.reading.history import history
from rl_logging.reading.metrics import LoggedMetrics, RunMetrics, read_metrics
from rl_logging.reading.runs import find_runs, records

__all__ = ["LoggedMetrics", "RunMetrics", "find_runs", "history", "read_metrics", "records"]
