"""A run from its opening to its end, as the logger holds it: what it has, what it tells, and how it ends."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from rl_logging import plugins
from rl_logging.bundle import resuming
from rl_logging.extraction.filters import MetricFilter
from rl_logging.extraction.pipeline import Pipeline
from rl_logging.records import Artifact, RunStatus
from rl_logging.run import endings, keeping, summary
from rl_logging.run.config import RunConfig
from rl_logging.run.goals import Goals
from rl_logging.run.journaled import JournaledRun, NullRun, Run
from rl_logging.run.saved_model import SavedModel
from rl_logging.run.scores import Scores, earlier_scores
from rl_logging.run.steps import StepClock
from rl_logging.run.summary import DestinationStatus
from rl_logging.settings import Loaded, Settings
from rl_logging.settings.sinks import SinkSettings

log = logging.getLogger("rl_logging")

Self = TypeVar("Self", bound="RunLifetime")


class RunLifetime:
    """The part of `rl_logging.ExperimentLogger` that is not about what to log.

    Attributes:
        settings: The settings.
        env: The training environment, or None.
    """

    settings: Settings
    env: object
    _run: Run | None
    _last_run: Run
    _sinks: tuple[SinkSettings, ...] | None = None
    _callbacks: list[Callable[[], None]]
    _last_callbacks: list[Callable[[], None]]
    _flush_callbacks: list[Callable[[], None]]

    @property
    def grace_s(self) -> float:
        """For how long SIGTERM leaves delivery time; 0: it is not handled for this run."""
        return 0.0 if isinstance(self._last_run, NullRun) else self.settings.grace_s

    @property
    def interrupted(self) -> bool:
        """Whether the caller, a signal handler, has interrupted this thread in the middle of a record."""
        run = self._last_run
        return isinstance(run, JournaledRun) and (run.interrupted or any(each.busy for each in self._pipelines))

    def on_finish(self, callback: Callable[[], None], *, last: bool = False) -> None:
        """Has `callback` called at the start of `finish`, or as the last thing it does, when delivery is over."""
        (self._last_callbacks if last else self._callbacks).append(callback)

    def on_flush(self, callback: Callable[[], None]) -> None:
        """Has `callback` called at the start of `flush`: for what writes its records a moment later."""
        self._flush_callbacks.append(callback)

    def warn_once(self, key: str, message: str) -> None:
        """Shows a warning, once per `key`."""
        if key not in self._warned:
            self._warned.add(key)
            # What is no Unicode, in a name of the user's, cannot be written to a terminal or a file.
            log.warning("%s", message.encode("utf-8", "backslashreplace").decode("utf-8"))

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

    def latest_checkpoint(self, name: str | None = None) -> SavedModel | None:
        """Returns the model of the run that was saved last and is still in the run directory; None where there is none.

        Args:
            name: Only of this name: ``checkpoint`` for those of stable-baselines3's callback, which hold what the
                last best model may lack, such as the replay buffer. None: whatever was saved last.

        After a crash, go on from it: `rl_logging.adapters.stable_baselines3.load_checkpoint` gives the model back.
        """
        run = self._last_run
        if not isinstance(run, JournaledRun):
            return None
        models = self._look_up("latest_checkpoint", resuming.saved_models, run.bundle) or []
        models = [model for model in models if name in (None, model.name)]
        if not models:
            return None
        latest = models[-1]
        self._tell_of_steps_between(run, latest.step or 0)
        path = run.bundle.resolve(latest.path)
        return SavedModel(
            name=latest.name,
            path=path,
            step=latest.step or 0,
            metadata=dict(latest.metadata),
            aliases=tuple(latest.aliases),
            seq=latest.seq or None,
        )

    @property
    def step(self) -> int:
        """Where the run's clock stands: the adapter's, or the highest step logged; 0 before any.

        Set it to stamp step-less calls with that step until it is set again; None lets them count up once more.
        """
        return self._steps.now

    @step.setter
    def step(self, step: int | None) -> None:
        self._steps.pin(step)

    def state_dict(self) -> dict[str, Any]:
        """Returns what to keep in a checkpoint of your own, as JSON values.

        ``id``, ``name`` and ``run_dir`` say which run it is, and ``resume`` takes the first or the last of them;
        ``step`` is where its clock stands, and ``resume_step`` takes it; ``accepted`` is how many records it has. All
        but ``step`` and ``accepted`` are None where nothing is kept.
        """
        run = self._last_run
        kept = run.bundle if isinstance(run, JournaledRun) else None
        return {
            "id": None if kept is None else kept.manifest.id,
            "name": None if kept is None else kept.manifest.name,
            "run_dir": None if kept is None else str(kept.path),
            "step": self.step,
            "accepted": self.accepted,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sets the run's clock to where it stood at `state_dict`. That of another run is told, and does so too.

        Which run the logger writes to was decided when it was made: give it ``resume=state["id"]`` then.
        """
        self._look_up("load_state_dict", self._load_state, state)

    def get_final_score(self) -> float | None:
        """Returns the mean of the last 10 evaluations, or of as many as there were; None without any.

        An evaluation is what was logged as ``eval/episode_reward_mean`` (or ``eval/mean_reward``), by an adapter or by
        `log_metrics`. Of a run that was resumed, the earlier parts count too.
        """
        run = self._last_run
        if self._resumed and isinstance(run, JournaledRun):
            read = functools.partial(self._look_up, "get_final_score", earlier_scores, run.bundle, self._earlier_seq)
            self._scores.recall(lambda: read() or [])
        return self._scores.mean()

    def run_id(self, sink: str, timeout: float | None = None) -> str | None:
        """Returns the remote run's id in `sink`; None while it is not known.

        Args:
            sink: The sink's name.
            timeout: For how many seconds to wait for it; None: `finish_timeout_s`, 0: not at all.
        """
        state = self._await_state(sink, timeout, lambda state: state.remote_id is not None)
        return None if state is None else state.remote_id

    def url(self, sink: str, timeout: float | None = None) -> str | None:
        """Returns where a person looks at the remote run in `sink`; None while, or where, there is no such place.

        Args:
            sink: The sink's name.
            timeout: As in `run_id`.
        """
        state = self._await_state(sink, timeout, lambda state: state.remote is not None)
        return None if state is None else state.url

    def status(self) -> dict[str, DestinationStatus]:
        """Returns how far each destination has come, by the sink's name."""
        run = self._last_run
        return {
            name: summary.destination_status(run.accepted, state, run.on_device)
            for name, (_, state) in run.states().items()
        }

    def flush(self, timeout: float = 10) -> bool:
        """Waits until every store has what was logged so far; False where `timeout` seconds were not enough."""
        run = self._run
        if run is None:
            return not any(status.pending for status in self.status().values())
        for callback in list(self._flush_callbacks):
            self._guarded("flush", callback)
        deadline = time.monotonic() + _bounded(timeout)
        arrived = run.settle(_bounded(timeout))
        target = run.accepted
        run.wake()

        def settled() -> bool:
            states = [state for _, state in run.states().values()]
            return all(state.confirmed >= target or state.phase == "refused" for state in states)

        run.wait(settled, _bounded(deadline - time.monotonic()))
        return arrived and all(state.confirmed >= target for _, state in run.states().values())

    def finish(self, status: RunStatus = "finished", timeout: float | None = None) -> None:
        """Ends the run: delivers what is left, and tells what came of it. Idempotent.

        Args:
            status: ``finished``, ``failed`` or ``killed``.
            timeout: For how many seconds to wait at most; None: the setting `finish_timeout_s`. With every store
                out of reach, 5 seconds.
        """
        if status not in ("finished", "failed", "killed"):
            self.warn_once("finish status", f"finish: {status!r} is not one of finished, failed, killed")
            status = "failed"
        with self._finishing:
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                self._guarded("finish", callback)
            if self._run is not None:
                self._tell_of_aliases()
                if self._pipelines:
                    self._guarded("names.json", self._log_names)
            run, self._run = self._run, None
            if run is None:
                return
            try:
                run.finish(status, _bounded(self.settings.finish_timeout_s if timeout is None else timeout))
            finally:  # Ctrl-C while it waits: what is owed is told all the same
                endings.unwatch(self)
                self._call_last()
                self._tell_of_filter()
                if not self.settings.quiet:
                    self._announce_end(run, status)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.finish(endings.status_of(kind, error))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} in {self._path}>"

    def _repr_html_(self) -> str:
        return summary.as_html(self._name, self._path, self.status())

    def __reduce__(self) -> tuple[Any, ...]:
        # What is unpickled in another process logs nothing there: the run belongs to this one.
        return _silenced, (type(self), self.settings, self._name, str(self._path))

    def become_silent(self) -> None:
        """In a forked child: verbs warn once and do nothing."""
        run, self._run = self._run, None
        self._why_silent = "it was made in another process, which goes on logging: only that one does"
        self._finishing = threading.RLock()
        self._steps.forget()
        if run is not None:
            run.forget()
        self._last_run = NullRun(Loaded(settings=self.settings, sinks=(), config={}))

    def _prepare(self) -> None:
        self._finishing = threading.RLock()
        self._warned: set[str] = set()
        self._steps = StepClock(self.warn_once)
        self._callbacks = []
        self._last_callbacks = []
        self._flush_callbacks = []
        self._scores = Scores()
        self._goals = Goals()
        self._pipelines: list[Pipeline] = []
        self._config = RunConfig()
        self._why_silent = "the run is finished"
        self._resumed = False
        self._adapter_filter = MetricFilter(self.settings.metric_filter)
        self._filter = self._adapter_filter if self.settings.metric_filter else None
        self._wanted = None if self._filter is None else self._filter.wants
        self._max_depth = self.settings.max_depth

    def _open(self, loaded: Loaded) -> Run:
        run: NullRun | JournaledRun
        if loaded.settings.delivery == "disabled":
            run = NullRun(loaded)
        else:
            run = JournaledRun(loaded, self.warn_once, self._stamp_sample)
        self._last_run = run
        self._path = run.path
        self._name = run.bundle.manifest.name if isinstance(run, JournaledRun) else loaded.settings.name or "disabled"
        if isinstance(run, JournaledRun):
            self._resumed = run.resumed
            self._earlier_seq = run.accepted
            self._steps.go_on_from(run.first_step)
            entries = {name: entry for name, (entry, _) in run.states().items()}
            if not entries:
                log.warning("no sink is configured%s: the run is kept in %s alone", _why_none(), run.path)
            if not loaded.settings.quiet:
                summary.announce(summary.start_block(self._name, run.path, loaded.settings.delivery, entries))
        return run

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
            reason = str(error) if isinstance(error, (ValueError, TypeError, OSError)) else repr(error)
            self.warn_once(f"{what} {type(error).__name__}", f"{what}: not logged: {reason}")
            log.debug("%s", what, exc_info=True)
            return None

    def _look_up(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls `function`, which only reads, also after `finish`; what goes wrong is told."""
        try:
            return function(*arguments)
        except Exception as error:
            self.warn_once(f"{what} {type(error).__name__}", f"{what}: {error}")
            return None

    def _load_state(self, state: Mapping[str, Any]) -> None:
        if not isinstance(state, Mapping) or "step" not in state:
            raise ValueError(f"got {type(state).__name__}, may be what state_dict() returned")
        run = self._last_run
        given, own = state.get("id"), run.bundle.manifest.id if isinstance(run, JournaledRun) else None
        if given is not None and own is not None and given != own:
            self.warn_once(
                "load_state_dict",
                f"load_state_dict: the state is of the run {given!r}, and this is {own!r}, which goes on at its step; "
                f"ExperimentLogger(..., resume={given!r}) goes on with that run itself",
            )
        self._steps.go_back_to(state["step"])

    def _stamp_sample(self, values: dict[str, float]) -> tuple[int, dict[str, float]]:
        """Gives a sample of the machine the step where the clock stands; called by other threads."""
        allows = self._adapter_filter.allows
        return self._steps.now, {name: value for name, value in values.items() if allows(name)}

    def _log_names(self) -> None:
        pipelines, self._pipelines = self._pipelines, []
        names: dict[str, dict[str, Any]] = {}
        for pipeline in pipelines:
            for name, origin in pipeline.origins().items():
                names.setdefault(name, dataclasses.asdict(origin))
        room = self._last_run.room
        if names and room is not None:
            self._append(Artifact.kind, self._steps.now, keeping.keep_names(room, names))

    def _call_last(self) -> None:
        callbacks, self._last_callbacks = self._last_callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception as error:
                self.warn_once("finish", f"finish: {error!r}")

    def _await_state(self, sink: str, timeout: float | None, known: Callable[[Any], bool]) -> Any:
        run = self._last_run
        if sink not in run.states():
            if self.settings.delivery != "disabled":
                self.warn_once(f"sink {sink}", f"this run has no sink '{sink}': it has {', '.join(run.states())}")
            return None
        if self.settings.delivery != "offline" and self._run is not None:
            run.wait(
                lambda: known(run.states()[sink][1]) or run.states()[sink][1].phase in ("refused", "done"),
                _bounded(self.settings.finish_timeout_s if timeout is None else timeout),
            )
        return run.states()[sink][1]

    def _tell_of_steps_between(self, run: JournaledRun, step: int) -> None:
        """Warns where the run went back to a later model than the one that was asked for by its name."""
        if self._resumed and self.settings.resume_step == "checkpoint" and step < run.first_step == self._steps.now:
            self.warn_once(
                "resume_step",
                f"resume_step: checkpoint has gone back to step {run.first_step:,}, that of the model that was saved "
                f"last; from this one, of step {step:,}, the steps between are logged twice: give resume_step={step}",
            )

    def _tell_of_filter(self) -> None:
        unmatched = self._filter.unmatched() if self._filter is not None else []
        if unmatched:
            log.warning("rl_logging.metric_filter: nothing was called %s", ", ".join(map(repr, unmatched)))

    def _tell_of_aliases(self) -> None:
        met = {name for pipeline in self._pipelines for name in pipeline.aliased()}
        unmatched = [name for name in self.settings.aliases or () if name not in met]
        if unmatched:
            log.warning("rl_logging.aliases: no adapter logged a metric called %s", ", ".join(map(repr, unmatched)))

    def _announce_end(self, run: Run, status: str) -> None:
        if isinstance(run, JournaledRun):
            lost, goes_on = run.lost, run.goes_on
            summary.announce(
                summary.finish_block(self._name, status, self._path, run.accepted, lost, run.states(), goes_on)
            )


def _bounded(timeout_s: float) -> float:
    """Returns a timeout that the system's clocks can hold."""
    return min(max(0.0, timeout_s), threading.TIMEOUT_MAX / 2)


def _why_none() -> str:
    return "" if plugins.sdk_present("mlflow") else ", and mlflow is not installed"


def _silenced(kind: type[RunLifetime], settings: Settings, name: str, path: str) -> RunLifetime:
    logger = kind.__new__(kind)
    logger.settings = settings
    logger.env = None
    logger._prepare()
    logger._run = None
    logger._name = name
    logger._path = Path(path)
    logger._last_run = NullRun(Loaded(settings=settings, sinks=(), config={}))
    logger._why_silent = "it was made in another process, which goes on logging: only that one does"
    return logger
