"""The best checkpoint of many runs: which it is, and bringing it home."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from rl_logging.media import slug
from rl_logging.retrieval.errors import NoCheckpointError, listed, near
from rl_logging.retrieval.opening import Where, open_store
from rl_logging.retrieval.ranking import By, Mode, RankedRun, find_runs, metric_name, rank
from rl_logging.stores import CheckpointInfo, Experiment, Points, RunInfo, Store

LOCAL_PATH: Final = "model_checkpoints"
RANK_METRIC: Final = "metrics.episode_reward_mean"

_METADATA: Final = "metadata.json"
_ID_CHARACTERS: Final = 8


@dataclasses.dataclass(frozen=True)
class BestCheckpoint:
    """A checkpoint, and why it is the best.

    Attributes:
        store: Where it is.
        run: The run that left it.
        checkpoint: The checkpoint; its `metrics` have the ranked one's value at that step, too.
        metric: What the runs were ranked by.
        value: The run's best value of it, or its last one.
        step: The step of that value. The checkpoint's own is the next one at which the run saved, or, if it saved none
            any more, the last before.
    """

    store: Store
    run: RunInfo
    checkpoint: CheckpointInfo
    metric: str
    value: float
    step: int

    def download(self, local_path: str | os.PathLike[str] = LOCAL_PATH, progress: bool = True) -> Path:
        """Brings the checkpoint home.

        Files that an earlier download has brought whole are not fetched again. Each file is compared with the hash
        that the store has of it.

        Args:
            local_path: A folder; the checkpoint goes to ``<run>/<model>/step_<n>`` below it.
            progress: Whether a terminal shows how far it is.

        Returns:
            The checkpoint's folder.

        Raises:
            StoreError: The store does not answer, or what came is not what was saved.
        """
        run, checkpoint = self.run, self.checkpoint
        version = checkpoint.path.rstrip("/").rpartition("/")[2]
        called = f"{slug(run.name)}-{run.id[:_ID_CHARACTERS]}"
        folder = Path(local_path).expanduser() / called / slug(checkpoint.name) / slug(version)
        with _bar(f"{run.name}: {checkpoint.name}, step {checkpoint.step}", progress) as bar:
            task = bar.add_task("", total=checkpoint.size)

            def told(done: int, total: int | None) -> None:
                bar.update(task, completed=done, total=total)

            return self.store.download(run, checkpoint, folder, told)


def best_checkpoint(
    metric: str = RANK_METRIC,
    mode: Mode = "max",
    by: By = "best",
    experiment: str | Experiment | None = None,
    status: str | Iterable[str] | None = "finished",
    *,
    model: str | None = None,
    group: str | None = None,
    parent: str | None = None,
    store: Where = None,
) -> BestCheckpoint:
    """Returns the best run's checkpoint that lies nearest after its best value.

    Args:
        metric: What the runs are ranked by.
        mode: ``max`` or ``min``: which values are better.
        by: ``best``: a run counts as much as the best value it ever had; ``last``: as its last one.
        experiment: The experiment's name or id, or itself; None: the runs of all.
        status: As in `find_runs`: failed runs, and those that go on, are left out unless it says else.
        model: The model's name, where a run saves several; None: any.
        group: Only runs of this group.
        parent: Only runs that are parts of the run of this id.
        store: See `open_store`.

    Raises:
        NoExperimentError: There is no such experiment.
        NoRunError: No run of it is like that.
        NoMetricError: No run has logged the metric.
        NoCheckpointError: The best run has left no checkpoint.
        StoreError: The store cannot be opened, or does not answer.
    """
    opened = open_store(store)
    runs = find_runs(experiment, status=status, group=group, parent=parent, store=opened)
    first = rank(opened, runs, metric, mode=mode, by=by)[0]
    name = metric_name(metric)
    chosen = _nearest_after(_checkpoints(opened, first, name, model), first)
    now = _value_at(opened.history(first.run, name), chosen)
    if now is not None:
        chosen = msgspec.structs.replace(chosen, metrics={name: now, **chosen.metrics})
    return BestCheckpoint(opened, first.run, chosen, name, first.value, first.step)


def get_top_run(
    experiment: str | Experiment | None,
    local_path: str | os.PathLike[str] = LOCAL_PATH,
    rank_metric: str = RANK_METRIC,
    *,
    mode: Mode = "max",
    by: By = "best",
    status: str | Iterable[str] | None = "finished",
    store: Where = None,
) -> Path:
    """Brings home the best checkpoint of an experiment's best run.

    Args:
        experiment: The experiment's name or id, or itself; None: the runs of all.
        local_path: Where to; see `BestCheckpoint.download`.
        rank_metric: What the runs are ranked by; ``metrics.`` may stand before its name.
        mode: As in `best_checkpoint`, as are the others.
        by: See there.
        status: See there.
        store: See `open_store`.

    Returns:
        The checkpoint's folder.

    Raises:
        StoreError: As in `best_checkpoint` and `BestCheckpoint.download`.
    """
    return best_checkpoint(rank_metric, mode, by, experiment, status, store=store).download(local_path)


def load_best(
    metric: str = RANK_METRIC,
    mode: Mode = "max",
    by: By = "best",
    experiment: str | Experiment | None = None,
    status: str | Iterable[str] | None = "finished",
    *,
    local_path: str | os.PathLike[str] = LOCAL_PATH,
    env: Any = None,
    device: str = "auto",
    model: str | None = None,
    store: Where = None,
    **options: Any,
) -> Any:
    """Brings home the best checkpoint, and loads it where that can be done without more.

    A stable-baselines3 algorithm is a pickle, which runs code when it is loaded: load none from a store that you do
    not trust.

    Args:
        metric: As in `best_checkpoint`, as are the next four.
        mode: See there.
        by: See there.
        experiment: See there.
        status: See there.
        local_path: Where to; see `BestCheckpoint.download`.
        env: For a stable-baselines3 algorithm: where it goes on; see its `load_checkpoint`.
        device: The same: where its policy is put.
        model: The model's name, where a run saves several; None: any.
        store: See `open_store`.
        **options: For the algorithm's own ``load``.

    Returns:
        The stable-baselines3 algorithm, with its VecNormalize; of anything else the path of the one file that was
        saved (``agent.pt`` for ``agent.load`` of SKRL, ``model.pt`` for ``torch.load``), or of the folder where there
        are several.

    Raises:
        StoreError: As in `best_checkpoint` and `BestCheckpoint.download`.
        ImportError: It is a stable-baselines3 algorithm, and that is not installed.
    """
    found = best_checkpoint(metric, mode, by, experiment, status, model=model, store=store)
    folder = found.download(local_path)
    if _kind(folder) == "stable_baselines3":
        adapter = importlib.import_module("rl_logging.adapters.stable_baselines3")
        return adapter.load_checkpoint(folder, env, device, **options)
    files = [path for path in folder.iterdir() if path.name != _METADATA and not path.name.startswith(".")]
    return files[0] if len(files) == 1 else folder


def _checkpoints(store: Store, first: RankedRun, metric: str, model: str | None) -> list[CheckpointInfo]:
    run = first.run
    there = store.checkpoints(run)
    found = [checkpoint for checkpoint in there if model in (None, checkpoint.name)]
    if found:
        return found
    best = f"the best run by {metric!r} in {store.location}, {run.name!r} ({run.id}, {first.value:g}),"
    if model is not None and there:
        raise NoCheckpointError(f"{best} has saved no {model!r}: {near(model, (it.name for it in there))}")
    others = store.other_files(run)
    raise NoCheckpointError(
        f"{best} has no checkpoint that was saved by save_model"
        + (f"; it has {listed(others)}, of which nothing tells the step" if others else "")
    )


def _nearest_after(checkpoints: Sequence[CheckpointInfo], value: RankedRun) -> CheckpointInfo:
    """Returns the first checkpoint from the value's step on; where there is none, the last before.

    Where no checkpoint has a step, as those of other loggers, the times decide; and among those of equal steps, which a
    run has that went back and took another way, as under PBT.
    """

    def distance(checkpoint: CheckpointInfo) -> tuple[bool, int, float]:
        late_s = 0.0 if checkpoint.time is None else checkpoint.time - value.time
        step = checkpoint.step or 0
        return step > value.step and late_s < 0, step, abs(late_s)

    def place(checkpoint: CheckpointInfo) -> tuple[float, float]:
        return checkpoint.step or 0, checkpoint.time or 0.0

    if all(it.step is None for it in checkpoints):
        after = [it for it in checkpoints if it.time is not None and it.time >= value.time]
    else:
        after = [it for it in checkpoints if it.step is not None and it.step >= value.step]
    if after:
        return min(after, key=distance)
    return max(checkpoints, key=place)


def _value_at(points: Points, checkpoint: CheckpointInfo) -> float | None:
    """Returns a metric's value when a checkpoint was saved; None where nothing was logged by then."""
    if checkpoint.step is None:
        return None
    before = points.value[points.step <= checkpoint.step]
    return float(before[-1]) if before.size else None


def _kind(folder: Path) -> str | None:
    try:
        told = json.loads((folder / _METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told.get("kind") if isinstance(told, dict) else None


def _bar(title: str, wanted: bool) -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn(title, markup=False), BarColumn(), DownloadColumn())
    return Progress(*columns, console=console, transient=True, disable=not (wanted and console.is_terminal))
