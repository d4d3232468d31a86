"""One training of a stable-baselines3 algorithm, from its beginning to its end, as it is logged."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from stable_baselines3.common.logger import DISABLED

from rl_logging.adapters.stable_baselines3.describe import configuration
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
from rl_logging.adapters.stable_baselines3.tap import LoggerTap, is_excluded
from rl_logging.adapters.videos import watch_env
from rl_logging.extraction.intervals import Interval

_ENDED_MOST: Final = 100
_ENDED_S: Final = 1.0


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
        self._ended: list[tuple[int, dict[str, float]]] = []
        self._wrote_ended_at = monotonic()
        self._evaluates = evaluates_candidates(model)
        self._episodes = Episodes(model)
        self._progress = Progress(model)
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
        self._episodes.evaluation_starts()
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
        self._advance()
        for info in names.get("infos", ()):
            if "episode" in info:
                self._episodes.add(info["episode"])
        if self._episodes.new:
            self._episodes_ended()

    def rollout_ends(self) -> None:
        """A rollout is collected; what follows is the update."""
        if not self.active:
            return
        if self._evaluates and self._episodes.evaluated():
            self._advance()
            self._episodes_ended()
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
            self._log_ended()
            stays = getattr(self.model, "_custom_logger", False) and self.model.logger is self._target
            self._leave_logger(keep=stays)
            self._log_own(self._last_figures(), final)
        elif self._steps:
            self._emit()
        else:
            self._pipeline.emit(final)

    # What the algorithm's logger is told.

    def on_record(self, key: str, value: Any, *, mean: bool = False) -> None:
        """A value was recorded."""
        try:
            self._touched.add(key)
            self._advance()
            if type(value) is not float and isinstance(value, KINDS):
                # At once: a figure is closed, and a second picture takes the place of the first, before the next dump.
                log_media(self._logger, key, value, self._run_step(self._at))
            elif not self._follows and value is not None:
                for name, kept in self._logged({key: value}).items():
                    self._pipeline.record(name, kept, "mean" if mean else None)
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
        self._log_ended()
        self._pipeline.log(self._logged(values), at)
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
        self._log_own(figures, at)

    def _held_values(self) -> dict[str, Any]:
        """Returns what the algorithm's logger would write now."""
        target = self._target
        values = {
            key: value
            for key, value in dict(target.name_to_value).items()
            if not is_excluded(target.name_to_excluded.get(key))
            # One that is disabled neither writes nor forgets, so that what it holds may be old.
            and (target.level != DISABLED or key in self._touched)
        }
        for key in [key for key, value in values.items() if isinstance(value, KINDS)]:
            media = values.pop(key)
            if key not in self._touched:  # from before the training, so it was not heard of
                log_media(self._logger, key, media, self._run_step(self._at))
        return values

    def _logged(self, values: Mapping[str, Any]) -> dict[str, Any]:
        logged = {key: value for key, value in values.items() if key not in self._skipped}
        if self._canonical and OBJECTIVE_KEY in logged:
            logged[clean(OBJECTIVE_KEY)] = logged[OBJECTIVE_KEY]  # besides the policy loss, which is its negative
        return logged

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
        if self._episodes.new:
            for key, value in self._episodes.drain().items():
                self._pipeline.record(key, value)
        self._pipeline.emit(step)
        figures = self._counters(step)
        if self._progress.fresh:
            figures.update(self._progress.figures())
        if self._episodes.fresh:
            figures.update(self._new_episodes())
        self._log_own(figures, step)

    def _episodes_ended(self) -> None:
        """Takes the episodes that ended with this step, where its own logger's writing is followed.

        At other intervals they wait in the window, as everything does. Here they are logged many at a time, each at
        its own step: one by one between two steps, when nothing of ours is in the processor's caches, a record costs
        several times as much. But none waits where the last ones were written a second ago: what waits is lost with
        the process.
        """
        if self._follows:
            self._ended.append((self._run_step(self._at), self._episodes.drain()))
            if len(self._ended) >= _ENDED_MOST or monotonic() - self._wrote_ended_at > _ENDED_S:
                self._log_ended()

    def _log_ended(self) -> None:
        ended, self._ended = self._ended, []
        for step, values in ended:
            self._pipeline.log(values, step)
        self._wrote_ended_at = monotonic()

    def _last_figures(self) -> dict[str, float]:
        figures = {**self._progress.figures(), **self._new_episodes()}
        if self._at not in (self._told_at, self._start):
            figures.update(self._counters(self._run_step(self._at)))
        return figures

    def _counters(self, step: int) -> dict[str, float]:
        return {"timesteps": step, "fps": self._progress.fps(), "iterations": self._progress.iterations}

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
