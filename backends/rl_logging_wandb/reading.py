"""W&B as a store to read from: the runs of a project, and the model artifacts they logged."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import wandb

from rl_logging.kept import MOST_BYTES, read_kept
from rl_logging.stores import (
    CheckpointInfo,
    Experiment,
    Points,
    Progress,
    RunInfo,
    Status,
    StoreError,
    no_points,
    numbers,
)
from rl_logging_wandb.artifacts import RECORD_FILE
from rl_logging_wandb.origin import SUPERSEDED_BY
from rl_logging_wandb.values import STEP_METRIC

TIMEOUT_S: Final = 30

_STATUSES: Final[Mapping[str, Status]] = {
    "finished": "finished",
    "failed": "failed",
    "crashed": "killed",
    "killed": "killed",
}


class WandbStore:
    """A project of W&B's, or all of an entity's, read through its public API.

    Args:
        entity: Whose; None: the default entity of whoever is logged in.
        project: Which; None: all.
    """

    def __init__(self, entity: str | None, project: str | None) -> None:
        self._project = project
        with _asking(f"wandb:{entity or ''}"):
            self._api = wandb.Api(timeout=TIMEOUT_S)
            self._entity = entity or self._api.default_entity
        self._runs: dict[str, Any] = {}
        self._artifacts: dict[tuple[str, str], Any] = {}

    @property
    def location(self) -> str:
        """``wandb:entity/project``."""
        return "/".join(filter(None, (f"wandb:{self._entity}", self._project)))

    def experiments(self) -> list[Experiment]:
        """See `rl_logging.stores.Store.experiments`: the projects."""
        with _asking(self.location):
            found = [
                Experiment(id=it.name, name=it.name, created=_seconds(it.created_at))
                for it in self._api.projects(self._entity)
                if self._project in (None, it.name)
            ]
        return sorted(found, key=lambda it: it.created)

    def runs(self, experiment: str | None = None) -> list[RunInfo]:
        """See `rl_logging.stores.Store.runs`."""
        wanted = [it.name for it in self.experiments() if experiment in (None, it.name)]
        found = []
        with _asking(self.location):
            for project in wanted:
                for run in self._api.runs(f"{self._entity}/{project}", order="+created_at", lazy=False):
                    self._runs[run.id] = run
                    found.append(self._info(run, project))
        return sorted(found, key=lambda it: it.created)

    def metric_names(self, run: RunInfo) -> list[str]:
        """See `rl_logging.stores.Store.metric_names`."""
        return sorted(run.metrics)

    def history(self, run: RunInfo, metric: str) -> Points:
        """See `rl_logging.stores.Store.history`; a run without ``global_step`` is not ours, and has W&B's own step."""
        with _asking(self.location):
            there = self._run(run)
            clock = STEP_METRIC if STEP_METRIC in there.summary else "_step"
            rows = [
                (row[clock], row["_timestamp"], row[metric])
                for row in there.scan_history(keys=[metric, clock, "_timestamp"])
                if _is_number(row.get(metric))
            ]
        if not rows:
            return no_points()
        steps, times, values = zip(*rows, strict=True)
        return Points(np.array(steps, np.int64), np.array(times, np.float64), np.array(list(map(float, values))))

    def checkpoints(self, run: RunInfo) -> list[CheckpointInfo]:
        """See `rl_logging.stores.Store.checkpoints`: artifacts of the type ``model``, also those of other loggers."""
        with _asking(self.location):
            artifacts = [it for it in self._run(run).logged_artifacts() if it.type == "model"]
            found = [self._checkpoint(run, artifact) for artifact in artifacts]
        return sorted(found, key=lambda it: (it.time or 0.0, it.step or 0))

    def other_files(self, run: RunInfo) -> list[str]:
        """See `rl_logging.stores.Store.other_files`: the run's other artifacts."""
        with _asking(self.location):
            return sorted(it.name for it in self._run(run).logged_artifacts())

    def download(
        self, run: RunInfo, checkpoint: CheckpointInfo, folder: Path, progress: Progress | None = None
    ) -> Path:
        """See `rl_logging.stores.Store.download`: every file is compared with the hash in the artifact's manifest."""
        with _asking(self.location):
            artifact = self._artifacts.get((run.id, checkpoint.path)) or self._api.artifact(
                f"{self._entity}/{run.experiment}/{checkpoint.path}"
            )
            try:
                _fetch(artifact, folder)
            except ValueError:
                # The SDK takes a file that is there for the right one by its size alone.
                for inside in artifact.manifest.entries:
                    (folder / inside).unlink(missing_ok=True)
                _fetch(artifact, folder)
        if progress is not None:
            progress(int(artifact.size), int(artifact.size))
        return folder

    def _run(self, run: RunInfo) -> Any:
        if run.id not in self._runs:
            self._runs[run.id] = self._api.run(f"{self._entity}/{run.experiment}/{run.id}")
        return self._runs[run.id]

    def _info(self, run: Any, project: str) -> RunInfo:
        summary = {key: value for key, value in dict(run.summary).items() if not key.startswith("_")}
        return RunInfo(
            id=run.id,
            name=run.name,
            experiment=project,
            status=_STATUSES.get(run.state, "running"),
            created=_seconds(run.created_at),
            group=run.group or None,
            config={key: value for key, value in dict(run.config).items() if not key.startswith("_")},
            metrics={key: value for key, value in _floats(summary).items() if key != STEP_METRIC},
            url=run.url,
            superseded_by=run.config.get(SUPERSEDED_BY),
            store=self.location,
        )

    def _checkpoint(self, run: RunInfo, artifact: Any) -> CheckpointInfo:
        told = _told(artifact)
        path = artifact.name
        self._artifacts[run.id, path] = artifact
        metadata = dict(told.get("metadata") or artifact.metadata or {})
        return CheckpointInfo(
            name=str(told.get("name") or path.partition(":")[0]),
            step=told.get("step"),
            time=told.get("time") or _seconds(artifact.created_at),
            path=path,
            metrics=numbers(metadata),
            metadata=metadata,
            size=int(artifact.size),
        )


def _told(artifact: Any) -> dict[str, Any]:
    """Returns what was noted of a model when it was saved; nothing where a file of that name is not ours."""
    entry = artifact.manifest.entries.get(RECORD_FILE)
    if entry is None or (entry.size or 0) > MOST_BYTES:
        return {}
    with tempfile.TemporaryDirectory(prefix="rl_logging-") as scratch:
        data = read_kept(Path(artifact.get_entry(RECORD_FILE).download(root=scratch, skip_cache=True)))
    try:
        told = json.loads(data)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _fetch(artifact: Any, folder: Path) -> None:
    """Raises ValueError where what is then in `folder` is not what the manifest says."""
    artifact.download(root=str(folder), skip_cache=True)
    artifact.verify(root=str(folder))


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if _is_number(value)}


def _is_number(value: object) -> bool:
    """Whether W&B has a number there; it keeps those that JSON has not as text."""
    return (isinstance(value, (int, float)) and not isinstance(value, bool)) or value in (
        "NaN",
        "Infinity",
        "-Infinity",
    )


def _seconds(text: str | None) -> float:
    """Returns W&B's time, which is UTC, in seconds since the epoch."""
    if not text:
        return 0.0
    stamp = text.rstrip("Z")
    return datetime.fromisoformat(stamp if "+" in stamp else f"{stamp}+00:00").timestamp()


@contextmanager
def _asking(location: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the SDK has no error of its own for each thing that can happen here
        raise StoreError(f"{location}: {str(error).strip() or type(error).__name__}") from error
