"""One training of a stable-baselines3 algorithm, from its beginning to its end, as it is logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rl_logging.adapters.stable_baselines3.backlog import Backlog
from rl_logging.adapters.stable_baselines3.describe import configuration
from rl_logging.adapters.stable_baselines3.held import held_values
from rl_logging.adapters.stable_baselines3.media import KINDS, log_media
from rl_logging.adapters.stable_baselines3.names import (
    EPISODE_KEYS,
    FPS_KEY,
    ITERATIONS_KEY,
    OBJECTIVE_KEY,
    TIMESTEPS_KEY,
    clean,
    evaluates_candidates,
    has_canonical_means,
    keys_of_ours,
    name_table,
)
from rl_logging.adapters.stable_baselines3.progress import Episodes, Progress
from rl_logging.adapters.stable_baselines3.session import Leftover, Session
from rl_logging.adapters.stable_baselines3.tap import LoggerTap
from rl_logging.adapters.videos import watch_env
from rl_logging.extraction.intervals import Interval

_LONG_ROLLOUT: Final = 20


class Training:
    """Listens to an algorithm's logger while it is trained, and logs what it hears.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        model: The algorithm, about to begin.
    """

    def __init__(self, logger: Any, model: Any) -> None:
        self.model = model
        self.active = True
        self._logger = logger
        self._session = Session.of(logger)
        self._session.end_those_of(model)
        self._interval = Interval.parse(logger.settings.interval)
        self._every = self._interval.every
        self._follows = self._interval.kind == "framework"
        ours = keys_of_ours(model, follows=self._follows)
        self._own_means = not ours.isdisjoint(EPISODE_KEYS)
        self._pipeline = logger.pipeline(name_table(model, ours))
        # Under canonical names alone, nothing is logged a second time; but another mean is another figure.
        self._canonical = logger.settings.names == "canonical"
        same = ours if has_canonical_means(model) else ours - EPISODE_KEYS
        self._skipped = same if self._canonical else frozenset()
        self._at = self._start = int(model.num_timesteps)
        self._clock = self._session.clock_of(model)
        self._offset = self._clock.at(self._at) - self._at
        self._steps = 0
        self._told_at: int | None = None
        self._touched: set[str] = set()
        self._rollout_began = 0
        self._backlog = Backlog(self._pipeline, self._keys_of)
        self._evaluates = evaluates_candidates(model)
        self._episodes = Episodes(model)
        self._progress = Progress(model, self._session.aside)
        self._target = model.logger
        self._tap = LoggerTap.listen(self._target, self)
        self._session.settle(self._target)
        self._session.begin(self)
        self._progress.begin()
        logger.set_clock(self._read_clock)

    # The course of a training.

    def start(self) -> None:
        """The training starts: logs what is trained, and how."""
        if self._session.is_new(self.model):
            self._logger.add_config_defaults(configuration(self.model))
        watch_env(self._logger, self.model.get_env())

    def rollout_starts(self) -> None:
        """The collection of a rollout starts, and the update before it is done."""
        self._follow_logger()
        self._progress.rollout_starts()
        if self._evaluates:
            self._episodes.evaluation_starts()
        self._rollout_began = self._steps
        if self._interval.kind == "rollout" and self._steps and self.active:
            self._emit()

    def step(self, names: Mapping[str, Any]) -> None:
        """All environments took a step.

        Args:
            names: The local variables of the loop that steps them.
        """
        if not self.active:
            return
        if self.model.logger is not self._target:
            self._follow_logger()
        # Where other processes evaluate candidates, no step of theirs is known.
        if self._evaluates and names.get("async_eval") is None and self._episodes.evaluated():
            self._episodes_ended()
        if self.model.num_timesteps != self._at:
            self._advance()
        for info in names.get("infos", ()):
            if "episode" in info:
                self._episodes.add(info["episode"])
        if self._follows and self._episodes.new:
            self._episodes_ended()
        if self._backlog.waiting:
            self._backlog.settle_if_due()

    def settle(self) -> None:
        """Writes what waits to be written."""
        self._backlog.settle()

    def rollout_ends(self) -> None:
        """A rollout is collected; what follows is the update."""
        if not self.active:
            return
        if self._evaluates and self._episodes.evaluated():
            self._advance()
            self._episodes_ended()
        if self._steps - self._rollout_began > _LONG_ROLLOUT:  # and so may be the update
            self._backlog.settle()
        self._progress.rollout_ends()

    def end(self) -> None:
        """Logs what is left, and leaves the algorithm's logger as it was found. Idempotent."""
        if not self.active:
            return
        self.active = False
        self._tap.leave(self)
        self._session.leave(self)
        # Not the model's own count, which a next training may have set back already.
        final = self._clock.at(self._at)
        self._logger.set_clock(lambda: final)
        self._progress.end()
        if self._follows:
            self._backlog.settle()
            stays = getattr(self.model, "_custom_logger", False) and self.model.logger is self._target
            self._leave_logger(keep=stays)
            self._log_own(self._last_figures(), final)
        else:
            if self._steps:
                self._emit()
            else:
                self._backlog.emit(final, {})
            self._backlog.settle()

    # What the algorithm's logger is told.

    def on_record(self, key: str, value: Any, *, mean: bool = False) -> None:
        """A value was recorded."""
        try:
            if self.model.num_timesteps != self._at:
                self._advance()
            if self._follows:
                self._touched.add(key)
            if type(value) is not float and isinstance(value, KINDS):
                # At once: a figure is closed, and a second picture takes the place of the first, before the next dump.
                self._log_media(key, value)
            elif not self._follows:
                self._backlog.record(key, value, "mean" if mean else None)
        except Exception as error:
            tell_of_failure(self._logger, "record", self._at, error)

    def on_dump(self, step: Any) -> None:
        """The logger is about to write."""
        if not self._follows:
            return
        try:
            self._dump(step)
        except Exception as error:
            tell_of_failure(self._logger, "dump", self._at, error)

    def _dump(self, step: Any) -> None:
        self._advance()
        values = self._held_values()
        self._touched.clear()
        at = self._run_step(int(step))
        self._backlog.settle()
        self._progress.update_may_have_ended()
        figures = self._progress.figures()
        if TIMESTEPS_KEY in values:
            figures["timesteps"] = self._run_step(self._at)
        if FPS_KEY in values:  # not an evaluation's
            self._told_at = self._at
            if ITERATIONS_KEY not in values:
                figures["iterations"] = self._progress.iterations
            figures.update(
                (name, figure)
                for name, figure in self._episodes.figures().items()
                if self._own_means or not name.endswith("_mean")
            )
            self._episodes.fresh = False
        self._pipeline.emit(at, values=self._logged(values), own=figures)

    def _held_values(self) -> dict[str, Any]:
        """Returns what the algorithm's logger would write now."""
        return held_values(self._target, self._touched, self._log_media)

    def _log_media(self, key: str, value: Any) -> None:
        log_media(self._logger, key, value, self._run_step(self._at))

    def _logged(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for key, value in values.items() for name in self._keys_of(key)}

    def _keys_of(self, key: str) -> tuple[str, ...]:
        """Returns under which keys a value is logged; none where a figure of our own has the name."""
        if key in self._skipped:
            return ()
        # An objective by its own name, too, besides the policy loss, which is its negative.
        return (key, clean(key)) if self._canonical and key == OBJECTIVE_KEY else (key,)

    def _follow_logger(self) -> None:
        """Moves over to the algorithm's logger of now, where somebody has given it another one."""
        if self.active and self.model.logger is not self._target:
            self._tap.leave(self)
            if self._follows:
                self._leave_logger(keep=False)
            self._target = self.model.logger
            self._tap = LoggerTap.listen(self._target, self)

    def _leave_logger(self, *, keep: bool) -> None:
        """Logs what was recorded and never written.

        Args:
            keep: Whether it may still be written by a later training, and is only then logged.
        """
        values = self._logged(self._held_values())
        self._touched.clear()
        leftover = Leftover(self._target, values, self._pipeline, self._run_step(self._at))
        if keep:
            self._session.keep(leftover)
        else:
            leftover.log()

    # Counting steps.

    def _advance(self) -> None:
        """Counts a step once the algorithm has taken one, and emits what lies before it where that is due.

        All that is recorded between two steps, the update's values too, so belongs to the first of them.
        """
        now = self.model.num_timesteps
        if now != self._at:
            if self._every is not None and self._steps and self._steps % self._every == 0:
                self._emit()
            self._at = int(now)  # NumPy's, where the number of environments is
            self._steps += 1

    def _emit(self) -> None:
        step = self._run_step(self._at)
        self._record_episodes()
        figures = self._progress.counters(step)
        if self._progress.fresh:
            figures.update(self._progress.figures())
        if self._episodes.fresh:
            figures.update(self._new_episodes())
        self._backlog.emit(step, figures)

    def _episodes_ended(self) -> None:
        """Takes the episodes that ended with this step, where its own logger's writing is followed.

        At other intervals they wait for the next emission, as everything does.
        """
        if self._follows:
            self._record_episodes()
            self._backlog.emit(self._run_step(self._at), {})

    def _record_episodes(self) -> None:
        if self._episodes.new:
            for key, value in self._episodes.drain().items():
                self._backlog.record(key, value)

    def _last_figures(self) -> dict[str, float]:
        figures = {**self._progress.figures(), **self._new_episodes()}
        if self._at not in (self._told_at, self._start):
            figures.update(self._progress.counters(self._run_step(self._at)))
        return figures

    def _new_episodes(self) -> dict[str, float]:
        if not self._episodes.fresh:
            return {}
        self._episodes.fresh = False
        return self._episodes.figures()

    def _log_own(self, figures: Mapping[str, float], step: int) -> None:
        if figures:
            self._pipeline.canonical(figures, step)

    # The clock.

    def _run_step(self, timesteps: int) -> int:
        return timesteps + self._offset

    def _read_clock(self) -> int | None:
        return self._run_step(int(self.model.num_timesteps))


def tell_of_failure(logger: Any, what: str, timesteps: int, error: Exception) -> None:
    """Warns of an error of the logging, which must not reach the training."""
    logger.warn_once(
        f"stable_baselines3/{what}",
        f"Failed to extract or log metrics at step {timesteps}: {type(error).__name__}: {error} "
        f"(in {what}; the training goes on)",
    )
