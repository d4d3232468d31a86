"""MLflow as a store to read from: any experiment's runs, and the checkpoints that this sink left in them."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from rl_logging.downloads import CHECKSUMS, RemoteFile, fetch, read_checksums
from rl_logging.sinks import RejectedError, TransientError
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
from rl_logging_mlflow import uris
from rl_logging_mlflow.artifacts import served
from rl_logging_mlflow.names import clean_key
from rl_logging_mlflow.opening import connect
from rl_logging_mlflow.options import Options
from rl_logging_mlflow.remote import RefusedError, asking
from rl_logging_mlflow.succession import SUPERSEDED_BY_TAG

MODELS: Final = "models"
METADATA: Final = "metadata.json"

_VERSION: Final = re.compile(r"step_(-?\d+)(-\d+)?")
_PAGE: Final = 1000
_AT_ONCE: Final = 8
_STATUSES: Final[Mapping[str, Status]] = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}
_WORDS: Final = {"True": True, "False": False, "None": None}
_CHANGED: Final = "config/"


class MlflowStore:
    """An MLflow store, read through its client.

    Args:
        uri: The tracking URI, absolute.

    Raises:
        StoreError: It cannot be opened.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        path = uris.sqlite_path(uri)
        if path is not None and not path.is_file():
            raise StoreError(f"there is no database {path}: give the tracking URI that the runs were logged to")
        with self._asking():
            self._client = connect(Options(tracking_uri=uri))
        self._names: dict[str, str] = {}

    @property
    def location(self) -> str:
        """The tracking URI."""
        return uris.without_credentials(self._uri)

    def experiments(self) -> list[Experiment]:
        """See `rl_logging.stores.Store.experiments`."""
        found = list(self._pages("search_experiments", order_by=["creation_time ASC"]))
        told = [
            Experiment(id=str(it.experiment_id), name=it.name, created=(it.creation_time or 0) / 1000) for it in found
        ]
        self._names = {it.id: it.name for it in told}
        return sorted(told, key=lambda it: it.created)

    def runs(self, experiment: str | None = None) -> list[RunInfo]:
        """See `rl_logging.stores.Store.runs`."""
        known = self.experiments()
        # A name that is another experiment's id means the name.
        wanted = [it.id for it in known if experiment in (None, it.name)] or [
            it.id for it in known if it.id == experiment
        ]
        if not wanted:
            return []
        found = self._pages("search_runs", experiment_ids=wanted, order_by=["attributes.start_time ASC"])
        return [self._info(run) for run in found]

    def metric_names(self, run: RunInfo) -> list[str]:
        """See `rl_logging.stores.Store.metric_names`."""
        return sorted(run.metrics)

    def history(self, run: RunInfo, metric: str) -> Points:
        """See `rl_logging.stores.Store.history`; a name that MLflow does not take is looked for as it was stored."""
        key = metric if metric in run.metrics else clean_key(metric)
        if key not in run.metrics:
            return no_points()
        with self._asking():
            points = list(self._client.get_metric_history(run.id, key))
        points.sort(key=lambda point: (point.timestamp, point.step))
        return Points(
            np.array([point.step for point in points], np.int64),
            np.array([point.timestamp / 1000 for point in points], np.float64),
            np.array([_number(point.value) for point in points], np.float64),
        )

    def checkpoints(self, run: RunInfo) -> list[CheckpointInfo]:
        """See `rl_logging.stores.Store.checkpoints`: what lies below ``models``."""
        files = self._files(run)
        paths = list(self._versions(files, MODELS))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(lambda path: self._checkpoint(files, path), paths))
        return sorted(found, key=lambda it: (it.time or 0.0, it.step or 0, it.path))

    def other_files(self, run: RunInfo) -> list[str]:
        """See `rl_logging.stores.Store.other_files`."""
        return sorted(entry.path for entry in self._list(self._files(run)))

    def download(
        self, run: RunInfo, checkpoint: CheckpointInfo, folder: Path, progress: Progress | None = None
    ) -> Path:
        """See `rl_logging.stores.Store.download`: every file is compared with the hash that was stored with it."""
        files = self._files(run)
        inside = {entry.path.removeprefix(f"{checkpoint.path}/"): entry for entry in self._walk(files, checkpoint.path)}
        if not inside:
            raise StoreError(f"{self.location}: {checkpoint.path} of the run '{run.name}' is gone")
        sums: dict[str, str] = {}
        if CHECKSUMS in inside:
            with tempfile.TemporaryDirectory(prefix="rl_logging-") as scratch:
                told = Path(scratch) / CHECKSUMS
                self._get(files, f"{checkpoint.path}/{CHECKSUMS}", 0, told)
                sums = read_checksums(told)
        missing = sorted(sums.keys() - inside.keys())
        if missing:
            raise StoreError(f"{self.location}: {checkpoint.path} of the run '{run.name}' lacks {', '.join(missing)}")
        wanted = [
            RemoteFile(path, entry.file_size, sums.get(path))
            for path, entry in inside.items()
            if not (sums and path == CHECKSUMS)
        ]
        return fetch(
            wanted,
            lambda path, target: self._get(files, f"{checkpoint.path}/{path}", inside[path].file_size or 0, target),
            folder,
            progress,
        )

    def _pages(self, method: str, **arguments: Any) -> Iterator[Any]:
        token: str | None = None
        while True:
            with self._asking():
                page = getattr(self._client, method)(max_results=_PAGE, page_token=token, **arguments)
            yield from page
            token = page.token
            if not token:
                return

    def _info(self, run: Any) -> RunInfo:
        info, data = run.info, run.data
        name = self._names[info.experiment_id]
        # MLflow never changes a param; the sink keeps later values as tags.
        params = dict(data.params) | {
            key.removeprefix(_CHANGED): value for key, value in data.tags.items() if key.startswith(_CHANGED)
        }
        return RunInfo(
            id=info.run_id,
            name=info.run_name or info.run_id,
            experiment=name,
            status=_STATUSES.get(info.status, "running"),
            created=(info.start_time or 0) / 1000,
            group=data.tags.get("rl_logging.group"),
            parent=data.tags.get("mlflow.parentRunId"),
            config={key: _value(text) for key, text in params.items()},
            metrics={key: _number(value) for key, value in data.metrics.items()},
            url=uris.run_url(self._uri, info.experiment_id, info.run_id) if uris.is_http(self._uri) else None,
            superseded_by=data.tags.get(SUPERSEDED_BY_TAG),
            store=self.location,
        )

    def _files(self, run: RunInfo) -> Any:
        """Returns the repository of a run's artifacts."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with self._asking():
            uri = self._client.get_run(run.id).info.artifact_uri
            return served(uri, self._uri) if uri.startswith("mlflow-artifacts:") else get_artifact_repository(uri)

    def _list(self, files: Any, path: str | None = None) -> Sequence[Any]:
        with self._asking():
            entries: Sequence[Any] = files.list_artifacts(path)
            return entries

    def _versions(self, files: Any, path: str) -> Iterator[str]:
        """Yields the paths of saved models at or below `path`; a model's name may be a path itself."""
        for entry in self._list(files, path):
            if entry.is_dir and _VERSION.fullmatch(entry.path.rpartition("/")[2]):
                yield entry.path
            elif entry.is_dir:
                yield from self._versions(files, entry.path)

    def _walk(self, files: Any, path: str) -> Iterator[Any]:
        for entry in self._list(files, path):
            if entry.is_dir:
                yield from self._walk(files, entry.path)
            else:
                yield entry

    def _checkpoint(self, files: Any, path: str) -> CheckpointInfo:
        inside = list(self._walk(files, path))
        # A model of somebody else's making says nothing of itself; the path has the step.
        told = self._metadata(files, path) if f"{path}/{METADATA}" in {entry.path for entry in inside} else {}
        version = _VERSION.fullmatch(path.rpartition("/")[2])
        assert version is not None
        metadata = told.get("metadata")
        return CheckpointInfo(
            name=str(told.get("name") or path.removeprefix(f"{MODELS}/").rpartition("/")[0]),
            step=int(version[1]),
            time=told.get("time") if isinstance(told.get("time"), (int, float)) else None,
            path=path,
            metrics=numbers(metadata) if isinstance(metadata, dict) else {},
            metadata=metadata if isinstance(metadata, dict) else {},
            size=sum(entry.file_size or 0 for entry in inside if not entry.path.endswith(f"/{CHECKSUMS}")),
        )

    def _metadata(self, files: Any, path: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="rl_logging-") as scratch:
            target = Path(scratch) / METADATA
            self._get(files, f"{path}/{METADATA}", 0, target)
            try:
                told = json.loads(target.read_text(encoding="utf-8"))
            except ValueError:
                return {}
        return told if isinstance(told, dict) else {}

    def _get(self, files: Any, path: str, size: int, target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".rl_logging-", dir=target.parent) as scratch:
            with self._asking(size):
                got = files.download_artifacts(path, dst_path=scratch)
            shutil.move(got, target)

    @contextmanager
    def _asking(self, size: int = 0) -> Iterator[None]:
        try:
            with asking(self._uri, upload_bytes=size):
                yield
        except (TransientError, RefusedError, RejectedError) as error:
            raise StoreError(f"{self.location}: {error}") from error


def _number(value: float) -> float:
    """Returns a metric's value; databases keep the infinities as the largest numbers there are."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value


def _value(text: str) -> Any:
    """Returns what a param's text was before the sink wrote it: a number, a truth value, a list, else the text."""
    if text in _WORDS:
        return _WORDS[text]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, (str, bool)) or value is None else value
