"""A run from its opening to its end, as the logger holds it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from rl_logging import plugins
from rl_logging.records import RunStatus
from rl_logging.run import endings, summary
from rl_logging.run.handle import bounded
from rl_logging.run.interface import Run
from rl_logging.run.journaled import JournaledRun
from rl_logging.run.leaving import LeavingRun, about_to_leave, itself
from rl_logging.run.null import NullRun
from rl_logging.run.standing import RunStanding
from rl_logging.settings import Loaded, Settings

log = logging.getLogger("rl_logging")

Self = TypeVar("Self", bound="RunLifetime")


class RunLifetime(RunStanding):
    """The part of `rl_logging.ExperimentLogger` that begins and ends the run."""

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
                self._names.finish(wait=not self.interrupted)
            self._stay()
            run, self._run = self._run, None
            if run is None:
                return
            try:
                run.finish(status, bounded(self.settings.finish_timeout_s if timeout is None else timeout))
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

    def __reduce__(self) -> tuple[Any, ...]:
        # What is unpickled in another process logs nothing there: the run belongs to this one.
        return _silenced, (type(self), self.settings, self._name, str(self._path))

    def leave(self, status: RunStatus) -> None:
        """The process is about to exit; unless this thread logs on, that is the run's status."""
        if self._run is not None:
            self._run = about_to_leave(self._run, status, self._stay)

    @property
    def leaving(self) -> RunStatus | None:
        """The status of `leave`; None where it was not called, or this thread has logged on."""
        return self._run.status if isinstance(self._run, LeavingRun) else None

    def become_silent(self) -> None:
        """In a forked child: verbs warn once and do nothing."""
        run, self._run = self._run, None
        self._why_silent = "it was made in another process, which goes on logging: only that one does"
        self._finishing = threading.RLock()
        self._steps.forget()
        self._names.forget()
        if run is not None:
            run.forget()
        self._last_run = NullRun(Loaded(settings=self.settings, sinks=(), config={}))

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

    def _stay(self) -> None:
        if self._run is not None:
            self._run = itself(self._run)

    def _call_last(self) -> None:
        callbacks, self._last_callbacks = self._last_callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception as error:
                self.warn_once("finish", f"finish: {error!r}")

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
