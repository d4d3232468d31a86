"""A sweep's runs: one parent, and a child for each trial."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Mapping
from typing import Any, Final

from rl_logging.adapters.ray_tune.trial_run import TrialRun
from rl_logging.logger import ExperimentLogger
from rl_logging.records import RunStatus

log = logging.getLogger("rl_logging.ray_tune")

NAME: Final = "sweep"
ENDED: Final[Mapping[str, RunStatus]] = {"TERMINATED": "finished", "ERROR": "failed"}


class Sweep:
    """The open runs of a sweep that is under way. All of it is called by Tune's thread.

    Args:
        config: The parent's configuration.
        keywords: Keywords of `ExperimentLogger` for the parent.
        run_id: The parent's id; those of the trials' runs follow from it, so that each is found again.
        facts: What is known of the sweep, for the parent's configuration.
        checkpoints: Whether checkpoints are saved.
        folder: Whether trials' folders are logged.
    """

    def __init__(
        self,
        config: Any,
        keywords: Mapping[str, Any],
        run_id: str,
        facts: Mapping[str, Any],
        *,
        checkpoints: bool,
        folder: bool,
    ) -> None:
        self._config = config
        self._keywords = dict(keywords)
        self._run_id = run_id
        self._facts = dict(facts)
        self._checkpoints = checkpoints
        self._folder = folder
        self._parent: ExperimentLogger | None = None
        self._open: dict[str, TrialRun] = {}
        self._trials: dict[str, Any] = {}
        self._ended: list[TrialRun] = []
        self._failed = 0

    def run_of(self, trial: Any) -> TrialRun:
        """Returns the trial's run, begun or gone on with where it is not open.

        Raises:
            SettingsError: It cannot be had.
        """
        run = self._open.get(trial.trial_id)
        if run is None:
            parent = self._parent or self._begin(trial)
            logger = parent.child(
                str(trial),
                tags=(*parent.settings.tags, f"trial_name:{trial}"),
                id=f"{self._run_id}-{trial.trial_id}"[:64],
                resume="auto",
                quiet=True,
            )
            run = TrialRun(logger, checkpoints=self._checkpoints, folder=self._folder)
            self._open[trial.trial_id] = run
            self._trials[trial.trial_id] = trial
        run.configured(trial.config)
        return run

    def end_of(self, trial: Any, status: RunStatus) -> None:
        """Ends the trial's run; where it is not open, as of a trial that failed before it began, it is now."""
        run = self.run_of(trial)
        del self._open[trial.trial_id], self._trials[trial.trial_id]
        self._ended.append(run)
        self._failed += status == "failed"
        run.end(status, (getattr(trial, "local_path", None), getattr(trial, "path", None)))

    def end_stopped(self) -> None:
        """Ends the runs of trials that Tune stopped with the sweep, as at a limit of time: of these it says nothing."""
        for trial in [each for each in self._trials.values() if each.status in ENDED]:
            self.end_of(trial, ENDED[trial.status])

    def end(self) -> None:
        """Ends all that is open, and waits for the stores as long as the settings say."""
        parent = self._parent
        if parent is None:
            return
        # Ctrl-C left these: Tune can go on with them, although by now it calls them terminated.
        interrupted = list(self._trials.values())
        for trial in interrupted:
            self.end_of(trial, "killed")
        deadline = time.monotonic() + parent.settings.finish_timeout_s
        for run in self._ended:
            run.join(max(0.0, deadline - time.monotonic()))
        self._tell_owing(parent)
        status: RunStatus = "finished"
        if interrupted:
            status = "killed"
        elif self._failed and self._failed == len(self._ended):
            status = "failed"
        finished = len(self._ended) - self._failed - len(interrupted)
        counts = {"trials/finished": finished, "trials/failed": self._failed}
        parent.log_metrics(counts, step=len(self._ended))
        parent.finish(status)

    def _tell_owing(self, parent: ExperimentLogger) -> None:
        owing = sum(run.owes() for run in self._ended)
        if owing:
            where = shlex.quote(str(parent.run_dir.parent))
            log.warning(
                "%d of %d trials' runs still owe records to their stores: 'rl-logging status %s' says which, "
                "'rl-logging sync %s' sends them",
                owing,
                len(self._ended),
                where,
                where,
            )

    def _begin(self, trial: Any) -> ExperimentLogger:
        keywords = self._keywords
        name = keywords.get("name") or getattr(trial, "experiment_dir_name", None) or NAME
        group = keywords.get("group") or f"{name}-{self._run_id}"
        given = {**keywords, "name": name, "group": group, "id": self._run_id, "resume": "auto"}
        self._parent = parent = ExperimentLogger(self._config, **given)
        parent.log_config({"sweep": self._facts})
        return parent
