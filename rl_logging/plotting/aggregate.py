"""Several seeds as one curve: the interquartile mean, with a bootstrap confidence band.

The method is that of Agarwal, Schwarzer, Castro, Courville and Bellemare, "Deep Reinforcement Learning at the Edge of
the Statistical Precipice" (NeurIPS 2021), whose implementation is the package rliable: the mean of the middle half of
the runs, and percentiles of it over resampled runs, each task's runs resampled among themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from rl_logging.stores import Points

Array = npt.NDArray[np.float64]

GRID: Final = 200
"""Places on the clock at which a curve is computed."""
RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95
_TRIMMED: Final = 0.25


def interquartile_mean(values: Array, axis: int = 0) -> Array:
    """Returns the mean without the lowest and the highest quarter of the values along an axis, rounded down.

    Of fewer than four values none is left out, so that it is their mean.
    """
    count = values.shape[axis]
    cut = int(count * _TRIMMED)
    middle = np.take(np.sort(values, axis=axis), range(cut, count - cut), axis=axis)
    return np.asarray(middle.mean(axis=axis))


def confidence_band(values: Array, strata: Sequence[object], *, seed: int = 0) -> tuple[Array, Array]:
    """Returns the lower and upper end of the interquartile mean's confidence interval, by percentile bootstrap.

    Args:
        values: Shape (runs, places).
        strata: Each run's task; runs are resampled among those of their own task.
        seed: Of the resampling, which the same call repeats.

    Returns:
        Two arrays of shape (places,).
    """
    generator = np.random.default_rng(seed)
    tasks = [np.flatnonzero([own == task for own in strata]) for task in dict.fromkeys(strata)]
    means = np.empty((RESAMPLES, values.shape[1]))
    for row in range(RESAMPLES):
        drawn = np.concatenate([generator.choice(runs, len(runs)) for runs in tasks])
        means[row] = interquartile_mean(values[drawn])
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (outside, 1 - outside), axis=0)
    return low, high


def on_a_grid(runs: Sequence[Points], places: int = GRID) -> tuple[Array, Array]:
    """Returns runs on one clock: steps of shape (places,), values of shape (runs, places).

    The clock covers what all of the runs cover; between two points of a run it is the straight line. Of several points
    at one step the last counts, and one that is no number is left out.

    Raises:
        ValueError: There is no step that all of the runs cover.
    """
    cleaned = [_cleaned(run) for run in runs]
    first = max(steps[0] for steps, _ in cleaned)
    last = min(steps[-1] for steps, _ in cleaned)
    if first > last:
        raise ValueError(f"no step is covered by all: one ends at {last:,.0f}, another begins at {first:,.0f}")
    grid = np.linspace(first, last, places if last > first else 1)
    return grid, np.stack([np.interp(grid, steps, values) for steps, values in cleaned])


def usable(run: Points) -> bool:
    """Whether a run has any point that is a number."""
    return bool(np.isfinite(run.value).any())


def _cleaned(run: Points) -> tuple[Array, Array]:
    finite = np.isfinite(run.value)
    steps, values = run.step[finite], run.value[finite]
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    last_of_step = np.append(steps[1:] != steps[:-1], True)
    return steps[last_of_step].astype(np.float64), values[last_of_step]
