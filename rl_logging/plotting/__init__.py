"""Learning curves of many runs in one picture."""

from __future__ import annotations

from rl_logging.plotting.curves import Curve, CurvesError, learning_curves
from rl_logging.plotting.figure import draw, plot_metric

__all__ = ["Curve", "CurvesError", "draw", "learning_curves", "plot_metric"]
