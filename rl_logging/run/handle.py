"""What every part of the logger works with: the run, its clock, its filters, and how what goes wrong is told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rl_logging.extraction.filters import MetricFilter
from rl_logging.extraction.pipeline import Pipeline
from rl_logging.records import Artifact
from rl_logging.run import keeping
from rl_logging.run.config import RunConfig
from rl_logging.run.goals import Goals
from rl_logging.run.interface import Run
from rl_logging.run.journaled import JournaledRun
from rl_logging.run.names import Names
from rl_logging.run.null import NullRun
from rl_logging.run.scores import Scores
from rl_logging.run.steps import StepClock
from rl_logging.settings import Settings
from rl_logging.settings.sinks import SinkSettings

log = logging.getLogger("rl_logging")


class RunHandle:
    """The part of `rl_logging.ExperimentLogger` that the others stand on.

    Attributes:
        settings: The settings.
        env: The training environment, or None.
    """

    settings: Settings
    env: object
    _run: Run | None
    _last_run: Run
    _path: Path
    _name: str
    _earlier_seq: int
    _sinks: tuple[SinkSettings, ...] | None = None
    _callbacks: list[Callable[[], None]]
    _last_callbacks: list[Callable[[], None]]

    @property
    def grace_s(self) -> float:
        """For how long SIGTERM leaves delivery time; 0: it is not handled for this run."""
        return 0.0 if isinstance(self._last_run, NullRun) else self.settings.grace_s

    @property
    def interrupted(self) -> bool:
        """Whether the caller, a signal handler, has interrupted this thread in the middle of a record."""
        run = self._last_run
        return isinstance(run, JournaledRun) and (run.interrupted or any(each.busy for each in self._pipelines))

    @property
    def accepted(self) -> int:
        """How many records the journal has accepted."""
        return self._last_run.accepted

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        return self._path

    @property
    def resumed(self) -> bool:
        """Whether this goes on with a run that was there already."""
        return self._resumed

    @property
    def step(self) -> int:
        """Where the run's clock stands: the adapter's, or the highest step logged; 0 before any.

        Set it to stamp step-less calls with that step until it is set again; None lets them count up once more.
        """
        return self._steps.now

    @step.setter
    def step(self, step: int | None) -> None:
        self._steps.pin(step)

    def on_finish(self, callback: Callable[[], None], *, last: bool = False) -> None:
        """Has `callback` called at the start of `finish`, or as the last thing it does, when delivery is over."""
        (self._last_callbacks if last else self._callbacks).append(callback)

    def warn_once(self, key: str, message: str) -> None:
        """Shows a warning, once per `key`."""
        if key not in self._warned:
            self._warned.add(key)
            # What is no Unicode, in a name of the user's, cannot be written to a terminal or a file.
            log.warning("%s", message.encode("utf-8", "backslashreplace").decode("utf-8"))

    def _prepare(self) -> None:
        self._finishing = threading.RLock()
        self._warned: set[str] = set()
        self._steps = StepClock(self.warn_once)
        self._callbacks = []
        self._last_callbacks = []
        self._scores = Scores()
        self._goals = Goals()
        self._pipelines: list[Pipeline] = []
        self._names = Names(self._keep_names)
        self._config = RunConfig()
        self._why_silent = "the run is finished"
        self._resumed = False
        self._adapter_filter = MetricFilter(self.settings.metric_filter)
        self._filter = self._adapter_filter if self.settings.metric_filter else None
        self._wanted = None if self._filter is None else self._filter.wants
        self._max_depth = self.settings.max_depth

    def _append(self, kind: str, step: int | None, body: object) -> int | None:
        run = self._run
        if run is None:
            self._refuse()
            return None
        return run.append(kind, step, body)

    def _refuse(self) -> None:
        self.warn_once("silent", f"nothing more is logged to '{self._name}': {self._why_silent}")

    def _guarded(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls `function`; what goes wrong is told and never reaches training."""
        if self._run is None:
            self._refuse()
            return None
        try:
            return function(*arguments)
        except Exception as error:
            self._tell_not_logged(what, error)
            log.debug("%s", what, exc_info=True)
            return None

    def _tell_not_logged(self, what: str, error: Exception) -> None:
        reason = str(error) if isinstance(error, (ValueError, TypeError, OSError)) else repr(error)
        self.warn_once(f"{what} {type(error).__name__}", f"{what}: not logged: {reason}")

    def _look_up(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls `function`, which only reads, also after `finish`; what goes wrong is told."""
        try:
            return function(*arguments)
        except Exception as error:
            self.warn_once(f"{what} {type(error).__name__}", f"{what}: {error}")
            return None

    def _stamp_sample(self, values: dict[str, float]) -> tuple[int, dict[str, float]]:
        """Gives a sample of the machine the step where the clock stands; called by other threads."""
        allows = self._adapter_filter.allows
        return self._steps.now, {name: value for name, value in values.items() if allows(name)}

    def _keep_names(self, names: Mapping[str, Mapping[str, Any]]) -> bool:
        return self._run is not None and self._guarded("names.json", self._log_names, names) is not None

    def _log_names(self, names: Mapping[str, Mapping[str, Any]]) -> int | None:
        room = self._last_run.room
        if room is None:
            return None
        return self._append(Artifact.kind, self._steps.now, keeping.keep_names(room, names))


def bounded(timeout_s: float) -> float:
    """Returns a timeout that the system's clocks can hold."""
    return min(max(0.0, timeout_s), threading.TIMEOUT_MAX / 2)
