"""How a run stands: its checkpoints and scores, the state to go on from, and what the stores have of it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from rl_logging.bundle import resuming
from rl_logging.run import summary
from rl_logging.run.handle import RunHandle, bounded
from rl_logging.run.journaled import JournaledRun
from rl_logging.run.saved_model import SavedModel
from rl_logging.run.scores import earlier_scores
from rl_logging.run.summary import DestinationStatus

STILL_WAITS_S: Final = 10.0
"""How often delivery is told that somebody still waits."""


class RunStanding(RunHandle):
    """The part of `rl_logging.ExperimentLogger` that says how the run stands."""

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
            "accepted": run.accepted,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sets the run's clock to where it stood at `state_dict`. That of another run is told, and does so too.

        A training that begins after it goes on from there; one that is being logged is told of, and keeps its own
        clock. Which run the logger writes to was decided when it was made: give it ``resume=state["id"]`` then.
        """
        self._look_up("load_state_dict", self._load_state, state)

    def take_restored_step(self) -> int | None:
        """Returns where `load_state_dict` has set the clock, to the first training that begins after it; else None."""
        return self._steps.take_restored()

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
        deadline = time.monotonic() + bounded(timeout)
        arrived = run.settle(bounded(timeout))
        target = run.accepted

        def settled() -> bool:
            states = [state for _, state in run.states().values()]
            return all(state.confirmed >= target or state.phase == "refused" for state in states)

        while True:
            # Told anew now and then, so that nobody is thought to wait long after Ctrl-C has ended this.
            until = min(deadline, time.monotonic() + STILL_WAITS_S)
            rest_s = bounded(until - time.monotonic())
            run.wake(rest_s)
            if run.wait(settled, rest_s) or time.monotonic() < until or until == deadline:
                break
        return arrived and all(state.confirmed >= target for _, state in run.states().values())

    def _repr_html_(self) -> str:
        return summary.as_html(self._name, self._path, self.status())

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
        if self._steps.read is not None:
            self.warn_once(
                "load_state_dict clock",
                "load_state_dict: while a training is being logged its own clock counts; the next one begins at the "
                "state's step",
            )

    def _await_state(self, sink: str, timeout: float | None, known: Callable[[Any], bool]) -> Any:
        run = self._last_run
        if sink not in run.states():
            if self.settings.delivery != "disabled":
                self.warn_once(f"sink {sink}", f"this run has no sink '{sink}': it has {', '.join(run.states())}")
            return None
        if self.settings.delivery != "offline" and self._run is not None:
            run.wait(
                lambda: known(run.states()[sink][1]) or run.states()[sink][1].phase in ("refused", "done"),
                bounded(self.settings.finish_timeout_s if timeout is None else timeout),
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
