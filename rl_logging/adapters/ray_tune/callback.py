"""The callback that logs a sweep of Ray Tune."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ray.tune.logger import LoggerCallback

from rl_logging.adapters.ray_tune.checkpoints import came_with_a_result, reported
from rl_logging.adapters.ray_tune.sweep import Sweep
from rl_logging.records import RunStatus
from rl_logging.run.identity import new_id
from rl_logging.settings import load

log = logging.getLogger("rl_logging.ray_tune")

Method = TypeVar("Method", bound=Callable[..., Any])


def _guarded(method: Method) -> Method:
    """Makes a method whose exceptions are told, once of each kind: one that escapes a callback ends the sweep."""

    @functools.wraps(method)
    def guarded(self: ExperimentLoggerCallback, *arguments: Any, **keywords: Any) -> Any:
        try:
            return method(self, *arguments, **keywords)
        except Exception as error:
            key = f"{method.__name__} {type(error).__name__} {error}"
            if key not in self._told:
                self._told.add(key)
                log.warning("%s: not logged: %s", method.__name__, error, exc_info=log.isEnabledFor(logging.DEBUG))
            return None

    return guarded  # type: ignore[return-value]


class ExperimentLoggerCallback(LoggerCallback):  # type: ignore[misc]
    """Logs a sweep: one run for all of it, and a run below that for each trial.

    For ``tune.RunConfig(callbacks=[...])``. It works in the process that calls ``fit()``; there, nothing waits for a
    store before the sweep is over. What goes wrong is told, and ends no sweep. A sweep that Tune restores goes on in
    the same runs.

    Args:
        config: As of `rl_logging.ExperimentLogger`; the configuration of the sweep's own run.
        checkpoints: Whether each checkpoint is logged as a model, ``checkpoint``, with its metrics.
        folder: Whether a trial's folder is logged at its end: Tune's files, without the checkpoints.
        **keywords: Keywords of `rl_logging.ExperimentLogger`.

    Attributes:
        run_id: The id of the sweep's own run, for ``rl_logging.parent``.

    Raises:
        SettingsError: A setting is wrong.
    """

    def __init__(self, config: Any = None, *, checkpoints: bool = True, folder: bool = True, **keywords: Any) -> None:
        settings = load(config, keywords).settings  # what is wrong is told now, not when the first trial begins
        self._config = config
        self._checkpoints = checkpoints
        self._folder = folder
        # Who restores the sweep may do so from elsewhere.
        self._keywords = {
            **keywords,
            "dir": str(Path(settings.dir).expanduser().absolute()),
            "name": settings.name,
            "group": settings.group,
        }
        self._chosen_id = settings.id
        self.run_id = settings.id or new_id()
        self._facts: dict[str, Any] = {}
        self._sweep: Sweep | None = None
        self._over = False
        self._told: set[str] = set()

    @_guarded
    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        """Takes note of what sweep it is; its run begins with the first trial."""
        if self._over and self._chosen_id is None:
            self.run_id = new_id()  # the same object in another sweep
        self._over = False
        self._facts = {"num_samples": total_num_samples or num_samples}
        if isinstance(stop, Mapping):
            self._facts["stop"] = dict(stop)

    @_guarded
    def log_trial_start(self, trial: Any) -> None:
        """Begins the trial's run, or goes on with it."""
        self._runs().run_of(trial)

    @_guarded
    def log_trial_restore(self, trial: Any) -> None:
        """Goes on with the trial's run."""
        self._runs().run_of(trial)

    @_guarded
    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Logs what a trial has reported, and the checkpoint that came with it."""
        run = self._runs().run_of(trial)
        run.result(result)
        checkpoint = reported(trial, result)
        if checkpoint is not None:
            run.checkpoint(checkpoint, result)

    @_guarded
    def log_trial_save(self, trial: Any) -> None:
        """Logs the checkpoint that a trainable class has saved."""
        run, saved = self._runs().run_of(trial), trial.latest_checkpoint_result
        if saved is not None and not came_with_a_result(saved.metrics or {}):
            run.saved(saved.checkpoint, saved.metrics or {})

    @_guarded
    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """Ends the trial's run."""
        status: RunStatus = "failed" if failed else "finished"
        self._runs().end_of(trial, status)

    @_guarded
    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Ends the runs of trials that have ended without a word."""
        if self._sweep is not None:
            self._sweep.end_stopped()

    @_guarded
    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Ends the sweep's run, and waits for the stores."""
        sweep, self._sweep = self._sweep, None
        self._over = True
        if sweep is not None:
            sweep.end()

    def get_state(self) -> dict[str, Any] | None:
        """Returns by what a restored sweep finds its runs again."""
        return {"run_id": self.run_id}

    @_guarded
    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on with the runs of a sweep that Tune restores."""
        self.run_id = str(state["run_id"])
        self._over = False

    def __getstate__(self) -> dict[str, Any]:
        # Open runs have threads and locks, and belong to this process.
        return {**self.__dict__, "_sweep": None, "_told": set()}

    def _runs(self) -> Sweep:
        if self._sweep is None:
            self._sweep = Sweep(
                self._config,
                self._keywords,
                self.run_id,
                self._facts,
                checkpoints=self._checkpoints,
                folder=self._folder,
            )
        return self._sweep
