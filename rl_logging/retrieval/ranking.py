"""Finding runs, and ranking them by what they came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from rl_logging.retrieval.errors import NoExperimentError, NoMetricError, NoRunError, near
from rl_logging.retrieval.opening import Where, open_store
from rl_logging.stores import Experiment, Points, RunInfo, Store

Mode = Literal["max", "min"]
By = Literal["best", "last"]

_PREFIX: Final = "metrics."
_ANY: Final = "any"


class RankedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and the value by which it stands where it does.

    Attributes:
        run: The run.
        value: Its best value, or its last one.
        step: The step of that value.
        time: When that was, in wall-clock seconds since the epoch.
    """

    run: RunInfo
    value: float
    step: int
    time: float


def list_experiments(store: Where = None) -> list[Experiment]:
    """Returns a store's experiments, oldest first.

    Args:
        store: See `open_store`.

    Raises:
        StoreError: The store cannot be opened, or does not answer.
    """
    return open_store(store).experiments()


def find_runs(
    experiment: str | Experiment | None = None,
    *,
    status: str | Iterable[str] | None = "finished",
    group: str | None = None,
    parent: str | None = None,
    store: Where = None,
) -> list[RunInfo]:
    """Returns runs, oldest first.

    Args:
        experiment: The experiment's name or id, or itself; None: of all.
        status: ``finished``, ``failed``, ``killed`` or ``running``, or several of them; None or ``any``: all, those
            included that another run has taken the place of, going on from one of their checkpoints.
        group: Only those of this group.
        parent: Only those that are parts of the run of this id.
        store: See `open_store`.

    Raises:
        NoExperimentError: There is no such experiment.
        NoRunError: No run of it is like that.
        StoreError: The store cannot be opened, or does not answer.
    """
    opened = open_store(store)
    name = experiment.name if isinstance(experiment, Experiment) else experiment
    there = opened.runs(name)
    if not there and name is not None:
        known = opened.experiments()
        if name not in {text for it in known for text in (it.name, it.id)}:
            names = [it.name for it in known]
            raise NoExperimentError(f"there is no experiment {name!r} in {opened.location}: {near(name, names)}")
    wanted = None if status in (None, _ANY) else {status} if isinstance(status, str) else set(status or ())
    found = [
        run
        for run in there
        if (wanted is None or (run.status in wanted and run.superseded_by is None))
        and group in (None, run.group)
        and parent in (None, run.parent)
    ]
    if not found:
        where = opened.location if name is None else f"the experiment {name!r} of {opened.location}"
        counts = Counter(run.status for run in there)
        others = ", ".join(f"{count} {word}" for word, count in counts.most_common())
        remedy = "; status='any' takes them all" if wanted is not None and counts.keys() - wanted else ""
        raise NoRunError(f"no run of {where} is as asked for: it has {others or 'no runs'}{remedy}")
    return found


def metric_name(given: str) -> str:
    """Returns a metric's name from how MLflow's searches call it: ``metrics.loss`` or ``metrics.`loss```."""
    name = given.removeprefix(_PREFIX)
    quoted = name != given and len(name) > 2 and name[0] == name[-1] and name[0] in '`"'
    return name[1:-1] if quoted else name


def rank(store: Store, runs: Sequence[RunInfo], metric: str, *, mode: Mode = "max", by: By = "best") -> list[RankedRun]:
    """Returns those of `runs` that have logged a metric, the best first; of equal ones the older first.

    NaN and the infinities count for nothing. Of equal best values within a run the first counts.

    Args:
        store: Where they are.
        runs: The runs.
        metric: Its name; ``metrics.`` may stand before it.
        mode: ``max`` or ``min``: which values are better.
        by: ``best`` or ``last``: which of a run's values counts.

    Raises:
        ValueError: `mode` or `by` is something else.
        NoMetricError: None of them has a finite value of it.
        StoreError: The store does not answer.
    """
    if mode not in ("max", "min"):
        raise ValueError(f"mode: got {mode!r}, may be 'max' or 'min'")
    if by not in ("best", "last"):
        raise ValueError(f"by: got {by!r}, may be 'best' or 'last'")
    name = metric_name(metric)
    ranked = [found for run in runs if (found := _ranked(run, store.history(run, name), mode, by)) is not None]
    if not ranked:
        names = {known for run in runs for known in store.metric_names(run)}
        if name in names:
            raise NoMetricError(f"{name!r} is NaN or infinite in each of the {len(runs)} runs of {store.location}")
        what = "the run" if len(runs) == 1 else f"none of the {len(runs)} runs"
        has = "has not" if len(runs) == 1 else "has"
        raise NoMetricError(f"{what} in {store.location} {has} logged {name!r}: {near(name, names)}")
    return sorted(ranked, key=lambda it: (-it.value if mode == "max" else it.value, it.run.created))


def _ranked(run: RunInfo, points: Points, mode: Mode, by: By) -> RankedRun | None:
    finite = np.flatnonzero(np.isfinite(points.value))
    if not finite.size:
        return None
    values = points.value[finite]
    at = int(finite[-1 if by == "last" else values.argmax() if mode == "max" else values.argmin()])
    return RankedRun(run=run, value=float(points.value[at]), step=int(points.step[at]), time=float(points.time[at]))
