"""One trial's run: its results, checkpoints and folder, and its end."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from rl_logging.adapters.ray_tune import checkpoints, results
from rl_logging.adapters.ray_tune.names import TABLE, distinct, kept
from rl_logging.jsonable import json_safe
from rl_logging.logger import ExperimentLogger
from rl_logging.records import RunStatus

log = logging.getLogger("rl_logging.ray_tune")

CHECKPOINT: Final = "checkpoint"
FOLDER_BYTES_MOST: Final = 100 * 2**20
FILES_MOST: Final = 1000

_OURS: Final = {
    "timesteps": ("timesteps_total", "num_env_steps_sampled_lifetime"),
    "iterations": ("training_iteration",),
    "time_elapsed": ("time_total_s",),
}


class TrialRun:
    """A trial's run, which Tune's thread logs to, and a thread of its own ends.

    Args:
        logger: The run.
        checkpoints: Whether checkpoints are saved.
        folder: Whether the trial's folder is logged at its end.
    """

    def __init__(self, logger: ExperimentLogger, *, checkpoints: bool, folder: bool) -> None:
        self._logger = logger
        self._checkpoints = checkpoints
        self._folder = folder
        self._pipeline = logger.pipeline(TABLE)
        self._config: object = None
        self._parameters: object = None
        self._saved: Mapping[str, float] | None = None
        self._threads: list[threading.Thread] = []

    def configured(self, config: Any) -> None:
        """Logs the trial's configuration where it is another one than before, as schedulers like PBT make it."""
        if config is self._config:
            return
        self._config = config
        parameters = json_safe(results.parameters(config))
        if parameters != self._parameters:
            self._parameters = parameters
            self._logger.log_config(parameters)

    def result(self, result: Mapping[str, Any]) -> None:
        """Logs a result's figures."""
        figures = results.figures(result)
        names = self._logger.settings.names
        always = kept(figures)
        if names == "native":
            own = {name: value for name, value in always.items() if name not in figures}
        else:
            own = {name: always[name] for name in ("agent_timesteps_total",) if name in always and name not in figures}
            for name, natives in _OURS.items():
                native = next((each for each in natives if each in figures), None)
                if native is not None and name not in figures:
                    own[name] = figures[native]
        step = results.step_of(result)
        self._pipeline.emit(
            self._logger.step if step is None else step,
            values=figures if names == "native" else distinct(figures),
            own=own,
        )

    def saved(self, checkpoint: Any, metrics: Mapping[str, Any]) -> None:
        """Saves the checkpoint of a trainable class, once where Tune has both its own and PBT's of one result.

        Args:
            checkpoint: Tune's checkpoint.
            metrics: The result that goes with it.
        """
        figures = results.figures(metrics)
        if figures != self._saved:
            self._saved = figures
            self.checkpoint(checkpoint, metrics)

    def checkpoint(self, checkpoint: Any, reported: Mapping[str, Any]) -> None:
        """Saves a checkpoint as a model; one that is not on this machine is fetched by a thread.

        Args:
            checkpoint: Tune's checkpoint.
            reported: The result that goes with it.
        """
        if not self._checkpoints:
            return
        figures = results.figures(reported)
        step = results.step_of(reported)
        metadata = {"metrics": figures | kept(figures)}
        if Path(checkpoint.path).is_dir():
            self._logger.save_model(checkpoint.path, CHECKPOINT, metadata, step)
            return

        def fetch() -> None:
            with tempfile.TemporaryDirectory(prefix="rl_logging-") as folder:
                self._logger.save_model(checkpoints.fetch(checkpoint, folder), CHECKPOINT, metadata, step)

        self._in_background(fetch)

    def end(self, status: RunStatus, folders: tuple[str | None, ...]) -> None:
        """Logs the trial's folder, and ends the run; a thread waits for the stores.

        Args:
            status: How it ended.
            folders: Where the trial's files are on this machine, as far as they are.
        """

        def finish() -> None:
            for thread in waited_for:
                thread.join(self._logger.settings.finish_timeout_s)
            try:
                if self._folder:
                    self._log_folder([Path(folder) for folder in folders if folder])
            finally:
                self._logger.finish(status)

        waited_for = list(self._threads)
        self._in_background(finish)

    def join(self, timeout_s: float) -> None:
        """Waits until the stores have what they take, but no longer than `timeout_s`."""
        for thread in self._threads:
            thread.join(timeout_s)

    def owes(self) -> bool:
        """Says whether a store has not got all of it by now."""
        under_way = any(thread.is_alive() for thread in self._threads)
        return under_way or any(status.pending for status in self._logger.status().values())

    def _in_background(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:
                self._logger.warn_once(f"ray_tune {type(error).__name__}", f"Ray Tune: {error!r}")

        self._threads.append(threading.Thread(target=run, name="rl_logging-trial", daemon=True))
        self._threads[-1].start()

    def _log_folder(self, folders: list[Path]) -> None:
        with tempfile.TemporaryDirectory(prefix="rl_logging-") as staging:
            target = Path(staging, "trial")
            left_out, room = 0, FOLDER_BYTES_MOST
            for relative, file in list(_files(folders))[:FILES_MOST]:
                size = file.stat().st_size
                if size > room:
                    left_out += 1
                    continue
                room -= size
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target / relative)
            if left_out:
                self._logger.warn_once(
                    "ray_tune folder",
                    f"Ray Tune: {left_out} files of {folders[0]} are left out: of a trial's folder, "
                    f"{FOLDER_BYTES_MOST // 2**20} MiB are logged at most",
                )
            if target.is_dir():
                self._logger.log_artifact(target, "trial", type="trial")


def _files(folders: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Yields a trial's files, each once, by their path in the folder; checkpoints are logged already."""
    seen: set[Path] = set()
    for folder in folders:
        for root, inner, names in os.walk(folder):
            inner[:] = sorted(name for name in inner if not name.startswith("checkpoint_"))
            for name in sorted(names):
                file = Path(root, name)
                relative = file.relative_to(folder)
                if relative not in seen and file.is_file() and not file.is_symlink():
                    seen.add(relative)
                    yield relative, file
