"""The interquartile mean and its band, beside SciPy's own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rl_logging.plotting.aggregate import confidence_band, interquartile_mean, on_a_grid, usable
from rl_logging.stores import Points


def points(steps: list[int], values: list[float]) -> Points:
    return Points(np.array(steps), np.zeros(len(steps)), np.array(values, np.float64))


@pytest.mark.parametrize("runs", [1, 3, 4, 7, 10])
def test_the_middle_is_scipys_trimmed_mean(runs: int) -> None:
    values = np.random.default_rng(0).normal(size=(runs, 5))
    np.testing.assert_allclose(interquartile_mean(values), stats.trim_mean(values, 0.25, axis=0))


def test_one_outlier_does_not_move_it() -> None:
    assert interquartile_mean(np.array([[1.0], [2.0], [3.0], [1e9]]))[0] == 2.5


def test_the_band_is_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).normal(size=(12, 3))
    low, high = confidence_band(values, ["one task"] * 12)
    theirs = stats.bootstrap(
        (values,), interquartile_mean, axis=0, method="percentile", n_resamples=4000, rng=np.random.default_rng(2)
    ).confidence_interval
    np.testing.assert_allclose(low, theirs.low, atol=0.06)
    np.testing.assert_allclose(high, theirs.high, atol=0.06)


def test_runs_are_resampled_within_their_task() -> None:
    values = np.array([[0.0], [0.0], [0.0], [10.0], [10.0], [10.0]])
    low, high = confidence_band(values, ["a", "a", "a", "b", "b", "b"])
    assert low[0] == high[0] == 5.0, "each resample has three of each task"
    low, high = confidence_band(values, ["a"] * 6)
    assert low[0] < 5.0 < high[0]


def test_runs_come_onto_the_clock_that_all_cover() -> None:
    grid, values = on_a_grid([points([0, 100], [0.0, 1.0]), points([50, 20, 200, 200], [5.0, 2.0, 0.0, 20.0])], 9)
    assert (grid[0], grid[-1]) == (20.0, 100.0)
    np.testing.assert_allclose(values[0], np.linspace(0.2, 1.0, 9))
    np.testing.assert_allclose(values[1], np.interp(grid, [20, 50, 200], [2.0, 5.0, 20.0]))


def test_what_is_no_number_is_left_out() -> None:
    _, values = on_a_grid([points([0, 5, 10], [0.0, np.nan, 10.0])], 3)
    np.testing.assert_allclose(values[0], [0.0, 5.0, 10.0])
    assert not usable(points([1], [np.inf]))


def test_runs_without_a_common_step_cannot_be_one_curve() -> None:
    with pytest.raises(ValueError, match="one ends at 10, another begins at 20"):
        on_a_grid([points([0, 10], [0.0, 1.0]), points([20, 30], [0.0, 1.0])])
