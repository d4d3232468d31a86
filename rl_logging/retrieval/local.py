"""Run directories as a store: what was logged here, whether or not anything else has it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rl_logging import bundle as bundles
from rl_logging.bundle import Bundle, BundleError
from rl_logging.bundle.destination import states
from rl_logging.bundle.resuming import saved_models
from rl_logging.downloads import RemoteFile, fetch, sha256
from rl_logging.journal import JournalError
from rl_logging.reading import history, records
from rl_logging.records import Config, End, Metrics, Model
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

log = logging.getLogger("rl_logging")

DEFAULT_EXPERIMENT: Final = "Default"


class LocalStore:
    """The run directories in a folder, or one of them.

    Args:
        folder: The folder.

    Raises:
        StoreError: It holds no run directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if next(bundles.find(folder), None) is None:
            raise StoreError(f"{folder} is not a run directory, and holds none")
        self._runs: dict[str, Bundle] = {}

    @property
    def location(self) -> str:
        """The folder."""
        return str(self._folder)

    def experiments(self) -> list[Experiment]:
        """See `rl_logging.stores.Store.experiments`."""
        began: dict[str, float] = {}
        for bundle in self._bundles():
            began.setdefault(_experiment(bundle), bundle.manifest.created)
        return [Experiment(id=name, name=name, created=created) for name, created in began.items()]

    def runs(self, experiment: str | None = None) -> list[RunInfo]:
        """See `rl_logging.stores.Store.runs`."""
        found = []
        for bundle in self._bundles():
            if experiment in (None, _experiment(bundle)):
                try:
                    found.append(self._info(bundle))
                except (BundleError, JournalError) as error:
                    log.warning("%s; it is passed over", error)
        return found

    def metric_names(self, run: RunInfo) -> list[str]:
        """See `rl_logging.stores.Store.metric_names`."""
        return sorted(run.metrics)

    def history(self, run: RunInfo, metric: str) -> Points:
        """See `rl_logging.stores.Store.history`."""
        with _told():
            found = history(self._bundle(run), lambda name: name == metric)
        return Points(*found[metric]) if metric in found else no_points()

    def checkpoints(self, run: RunInfo) -> list[CheckpointInfo]:
        """See `rl_logging.stores.Store.checkpoints`."""
        bundle = self._bundle(run)
        with _told():
            models = saved_models(bundle)
            return [
                CheckpointInfo(
                    name=model.name,
                    step=model.step,
                    time=model.time,
                    path=model.path,
                    metrics={**last, **numbers(model.metadata)},
                    metadata=model.metadata,
                    size=sum(file.size or 0 for file in _files(bundle.resolve(model.path))),
                )
                for model, last in zip(models, _last_values(bundle, models), strict=True)
            ]

    def other_files(self, run: RunInfo) -> list[str]:
        """See `rl_logging.stores.Store.other_files`."""
        return sorted(path.name for path in (self._bundle(run).path / "artifacts").glob("*"))

    def download(
        self, run: RunInfo, checkpoint: CheckpointInfo, folder: Path, progress: Progress | None = None
    ) -> Path:
        """See `rl_logging.stores.Store.download`: a copy, compared with what it was copied from."""
        source = self._bundle(run).resolve(checkpoint.path)
        if not source.is_dir():
            raise StoreError(f"{source} is gone")
        files = [RemoteFile(file.path, file.size, sha256(source / file.path)) for file in _files(source)]
        return fetch(files, lambda path, target: _copy(source / path, target), folder, progress)

    def _bundles(self) -> Iterator[Bundle]:
        found = []
        for path in bundles.find(self._folder):
            try:
                found.append(Bundle(path))
            except BundleError as error:
                log.warning("%s; it is passed over", error)
        yield from sorted(found, key=lambda bundle: (bundle.manifest.created, bundle.path))

    def _bundle(self, run: RunInfo) -> Bundle:
        if run.id not in self._runs:
            self._runs = {bundle.manifest.id: bundle for bundle in self._bundles()}
        try:
            return self._runs[run.id]
        except KeyError:
            raise StoreError(f"{self._folder} has no run {run.id} any more") from None

    def _info(self, bundle: Bundle) -> RunInfo:
        manifest = bundle.manifest
        metrics: dict[str, float] = {}
        config: dict[str, Any] = {}
        status: Status | None = None
        for record in records(bundle, (Metrics, Config, End)):
            if isinstance(record, Metrics):
                metrics.update(record.values)
            elif isinstance(record, Config):
                config = merged(config, record.values)
            status = record.status if isinstance(record, End) else None
        return RunInfo(
            id=manifest.id,
            name=manifest.name,
            experiment=_experiment(bundle),
            status=status or ("killed" if bundle.abandoned() else "running"),
            created=manifest.created,
            group=manifest.group,
            parent=manifest.parent,
            config=config,
            metrics=metrics,
            url=next((state.url for _, state, _ in states(bundle).values() if state.url is not None), None),
            store=self.location,
        )


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `old` with `new` laid over it key by key, at every depth."""
    both = dict(old)
    for key, value in new.items():
        before = both.get(key)
        both[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return both


def _experiment(bundle: Bundle) -> str:
    manifest = bundle.manifest
    if manifest.project is not None:
        return manifest.project
    for entry in manifest.sinks:
        for key in ("experiment", "project"):
            if isinstance(entry.options.get(key), str):
                return str(entry.options[key])
    return DEFAULT_EXPERIMENT


def _last_values(bundle: Bundle, models: Iterable[Model]) -> Iterator[dict[str, float]]:
    """Yields each metric's last value at the time of each model, of which the oldest comes first."""
    reader = records(bundle, (Metrics,))
    current: dict[str, float] = {}
    following = next(reader, None)
    for model in models:
        while following is not None and following.time <= model.time:
            assert isinstance(following, Metrics)
            current.update(following.values)
            following = next(reader, None)
        yield dict(current)


def _files(folder: Path) -> list[RemoteFile]:
    return [
        RemoteFile(path.relative_to(folder).as_posix(), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (BundleError, JournalError) as error:
        raise StoreError(str(error)) from error


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
