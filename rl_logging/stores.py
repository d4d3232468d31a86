"""What a store is to whoever reads it: experiments, their runs, what those logged, and the checkpoints they left.

A plugin opens one from its location (`rl_logging.hookspecs.rl_logging_open_store`); `rl_logging.retrieval.open_store`
asks them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Status = Literal["running", "finished", "failed", "killed"]

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there, and how many there will be, or None."""


class StoreError(Exception):
    """A store cannot be opened or read; the message says why and what to do."""


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that a store keeps together: MLflow's experiment, W&B's project, ``rl_logging.project`` of local runs.

    Attributes:
        id: What the store calls it.
        name: What people call it.
        created: Wall-clock seconds since the epoch; 0 where the store does not say.
    """

    id: str
    name: str
    created: float = 0.0


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A run as a store has it.

    Attributes:
        id: What the store calls it.
        name: What people call it.
        experiment: The name of its experiment.
        status: How it ended, if it did.
        created: When it began, in wall-clock seconds since the epoch.
        group: Runs that belong together, or None.
        parent: The id of the run it is a part of, in this store, or None.
        config: Its configuration as the store has it: nested, or flat with ``/`` in the keys.
        metrics: The last value of each metric.
        url: Where a person looks at it, or None.
        superseded_by: The id of the run that went on from one of its checkpoints in its place, or None.
        store: The store's location.
    """

    id: str
    name: str
    experiment: str
    status: Status
    created: float
    group: str | None = None
    parent: str | None = None
    config: Mapping[str, Any] = {}
    metrics: Mapping[str, float] = {}
    url: str | None = None
    superseded_by: str | None = None
    store: str = ""


class Points(NamedTuple):
    """One metric of one run, in the order in which it was logged; arrays of shape (N,)."""

    step: npt.NDArray[np.int64]
    """Where each stands on the run's clock; environment steps where an adapter logged it."""
    time: npt.NDArray[np.float64]
    """Wall-clock seconds since the epoch."""
    value: npt.NDArray[np.float64]
    """What was logged; NaN and the infinities included."""


class CheckpointInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A saved model of a run.

    Attributes:
        name: The model's name.
        step: The step at which it was saved, or None.
        time: When, in wall-clock seconds since the epoch; None where the store does not say.
        path: What the store calls it: a path in the run, or an artifact's name.
        metrics: Numbers that belong to it: those given as its metadata, and, where the store can tell without asking
            for each, the last value of every metric at that moment.
        metadata: What was given with it.
        size: Bytes; None where the store would have to be asked for it.
    """

    name: str
    step: int | None
    time: float | None
    path: str
    metrics: Mapping[str, float] = {}
    metadata: Mapping[str, Any] = {}
    size: int | None = None


@runtime_checkable
class Store(Protocol):
    """A place where runs are kept, read only. Every method raises `StoreError` where the store does not answer."""

    @property
    def location(self) -> str:
        """Where it is, without credentials."""
        ...

    def experiments(self) -> list[Experiment]:
        """Returns the experiments, oldest first."""
        ...

    def runs(self, experiment: str | None = None) -> list[RunInfo]:
        """Returns the runs of an experiment (its name or id; None: of all), oldest first; none where there is none."""
        ...

    def metric_names(self, run: RunInfo) -> Sequence[str]:
        """Returns the names of a run's metrics, sorted."""
        ...

    def history(self, run: RunInfo, metric: str) -> Points:
        """Returns one metric of a run; arrays of length 0 where it has none of that name."""
        ...

    def checkpoints(self, run: RunInfo) -> list[CheckpointInfo]:
        """Returns a run's saved models, in the order in which they were saved."""
        ...

    def other_files(self, run: RunInfo) -> Sequence[str]:
        """Returns what else a run left at its top level, for a message where there is no checkpoint."""
        ...

    def download(
        self, run: RunInfo, checkpoint: CheckpointInfo, folder: Path, progress: Progress | None = None
    ) -> Path:
        """Puts a checkpoint's files into `folder`, which is made; what is there already and is right stays.

        Returns:
            The folder.

        Raises:
            StoreError: The store does not answer, or what came is not what was saved.
        """
        ...


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the entries of `values` that are numbers, and those of its entry ``metrics``, where that is a mapping."""
    inner = values.get("metrics")
    return {
        str(name): float(value)
        for name, value in [*(inner.items() if isinstance(inner, Mapping) else ()), *values.items()]
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def no_points() -> Points:
    """Returns a metric without points."""
    import numpy as np  # whoever only logs needs none

    return Points(np.zeros(0, np.int64), np.zeros(0, np.float64), np.zeros(0, np.float64))
