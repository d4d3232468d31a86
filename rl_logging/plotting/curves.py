"""From runs in stores to one curve a setting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rl_logging.plotting.aggregate import Array, confidence_band, interquartile_mean, on_a_grid, usable
from rl_logging.plotting.grouping import Setting, default_keys, setting_of
from rl_logging.stores import Points, RunInfo, Store


class CurvesError(Exception):
    """There is nothing to draw; the message says why, and what there is."""


class Curve(NamedTuple):
    """One setting's learning curve."""

    setting: tuple[str, ...]
    """The values of the keys that the runs were grouped by."""
    step: Array
    """Environment steps, or what the runs' clock is; shape (N,)."""
    middle: Array
    """The runs' interquartile mean; shape (N,)."""
    low: Array
    """The lower end of its 95 % confidence band; shape (N,)."""
    high: Array
    """The upper end."""
    runs: int
    """How many runs it is made of."""


def learning_curves(
    stores: Iterable[Store],
    metric: str,
    *,
    group_by: Sequence[str] | None = None,
    experiment: str | None = None,
    failed_too: bool = False,
) -> tuple[tuple[str, ...], list[Curve]]:
    """Returns a curve for each setting of the runs that have a metric.

    Args:
        stores: Where the runs are.
        metric: The metric's name.
        group_by: What tells settings apart; see `rl_logging.plotting.grouping.setting_of`. None: the runs' groups where
            all have one, else framework, algorithm and environment; of runs below a parent also what they differ in.
        experiment: Only this experiment's runs.
        failed_too: Whether runs count that failed or were killed.

    Returns:
        The keys of the settings, and the curves in the order of their settings.

    Raises:
        CurvesError: No run has the metric, or a setting's runs have no step in common.
        rl_logging.stores.StoreError: A store does not answer.
    """
    with_points: list[tuple[RunInfo, Points]] = []
    left_out = 0
    names: set[str] = set()
    for store in stores:
        for run in store.runs(experiment):
            names.update(run.metrics)
            points = store.history(run, metric)
            if not usable(points):
                continue
            if run.status in ("failed", "killed") and not failed_too:
                left_out += 1
                continue
            with_points.append((run, points))
    if not with_points:
        raise CurvesError(_nothing(metric, names, left_out))
    keys = tuple(group_by) if group_by else default_keys([run for run, _ in with_points])
    settings: dict[Setting, list[tuple[RunInfo, Points]]] = {}
    for run, points in with_points:
        settings.setdefault(setting_of(run, keys), []).append((run, points))
    return keys, [_curve(setting, runs) for setting, runs in sorted(settings.items())]


def _curve(setting: Setting, runs: Sequence[tuple[RunInfo, Points]]) -> Curve:
    try:
        step, values = on_a_grid([points for _, points in runs])
    except ValueError as error:
        raise CurvesError(f"{', '.join(filter(None, setting)) or 'the runs'}: {error}") from error
    low, high = confidence_band(values, [setting_of(run, ("env",)) for run, _ in runs])
    return Curve(setting, step, interquartile_mean(values), low, high, len(runs))


def _nothing(metric: str, names: Iterable[str], left_out: int) -> str:
    if left_out:
        return f"only runs that failed or were killed have '{metric}' ({left_out} of them): --failed-too draws them"
    listed = sorted(names)
    return f"no run has the metric '{metric}'; there are: {', '.join(listed[:20]) or 'none'}"
