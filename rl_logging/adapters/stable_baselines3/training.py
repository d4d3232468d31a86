"""One training of a stable-baselines3 algorithm, from its beginning to its end, as it is logged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rl_logging.adapters.stable_baselines3.describe import configuration
from rl_logging.adapters.stable_baselines3.held import held_values
from rl_logging.adapters.stable_baselines3.media import KINDS, log_media
from rl_logging.adapters.stable_baselines3.names import (
    FPS_KEY,
    ITERATIONS_KEY,
    TIMESTEPS_KEY,
    Keys,
    evaluates_candidates,
)
from rl_logging.adapters.stable_baselines3.plain import plain
from rl_logging.adapters.stable_baselines3.progress import Episodes, Progress
from rl_logging.adapters.stable_baselines3.session import Leftover, Session
from rl_logging.adapters.stable_baselines3.tap import LoggerTap
from rl_logging.adapters.videos import watch_env
from rl_logging.extraction.intervals import Interval


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
        self._keys = Keys(model, follows=self._follows, canonical=logger.settings.names == "canonical")
        self._pipeline = logger.pipeline(self._keys.table)
        self._at = self._start = int(model.num_timesteps)
        self._clock = self._session.clock_of(model)
        self._offset = self._clock.at(self._at) - self._at
        self._steps = 0
        self._told_at: int | None = None
        self._touched: set[str] = set()
        self._at_end: list[Callable[[], None]] = []
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
        if self._interval.kind == "rollout" and self._steps and self.active:
            self._emit()

    def step(self, names: Mapping[str, Any]) -> None:
        """All environments took a step.

        Args:
            names: The local variables of the loop that steps them.
        """
        if not self.active:
            return
        model = self.model
        if model.logger is not self._target:
            self._follow_logger()
        # Where other processes evaluate candidates, no step of theirs is known.
        if self._evaluates and names.get("async_eval") is None:
            self._candidates_evaluated()
        if model.num_timesteps != self._at:
            self._advance()
        ended = False
        for info in names.get("infos", ()):
            if "episode" in info:
                self._take(info["episode"])
                ended = True
        if ended and self._follows:
            self._pipeline.emit(self._run_step(self._at))

    def rollout_ends(self) -> None:
        """A rollout is collected; what follows is the update."""
        if not self.active:
            return
        if self._evaluates:
            if self.model.num_timesteps != self._at:
                self._advance()
            self._candidates_evaluated()
        self._progress.rollout_ends()

    def at_end(self, leave: Callable[[], None]) -> None:
        """Has `leave` called at the end, however it comes."""
        self._at_end.append(leave)

    def end(self) -> None:
        """Logs what is left, and leaves the algorithm's logger as it was found. Idempotent."""
        if not self.active:
            return
        self.active = False
        self._tap.leave(self)
        for leave in self._at_end:
            leave()
        self._session.leave(self)
        # Not the model's own count, which a next training may have set back already.
        final = self._clock.at(self._at)
        self._logger.set_clock(final)
        self._progress.end()
        if self._follows:
            # What Ctrl-C has kept from being logged, in the middle of it.
            self._pipeline.emit(final)
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
            if self.model.num_timesteps != self._at:
                self._advance()
            if self._follows:
                self._touched.add(key)
            if type(value) is not float:
                if isinstance(value, KINDS):
                    # At once: a figure is closed, and a second picture takes the place of the first, before the dump.
                    self._log_media(key, value)
                    return
                value = plain(value)
            if not self._follows:
                for name in self._keys.known.get(key) or self._keys.of(key):
                    self._pipeline.record(name, value, "mean" if mean else None)
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
        if self.model.num_timesteps != self._at:
            self._advance()
        values = self._held_values()
        self._touched.clear()
        at = self._run_step(int(step))
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
                if self._keys.own_means or not name.endswith("_mean")
            )
            self._episodes.fresh = False
        self._pipeline.emit(at, values=self._logged(values), own=figures)

    def _held_values(self) -> dict[str, Any]:
        """Returns what the algorithm's logger would write now."""
        return held_values(self._target, self._touched, self._log_media)

    def _log_media(self, key: str, value: Any) -> None:
        log_media(self._logger, key, value, self._run_step(self._at))

    def _logged(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for key, value in values.items() for name in self._keys.of(key)}

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
        if self._every is not None and self._steps and self._steps % self._every == 0 and self._has_news():
            self._emit()
        self._at = int(self.model.num_timesteps)  # NumPy's, where the number of environments is
        self._steps += 1

    def _has_news(self) -> bool:
        """Whether there is something to emit; where each step is asked for, its number alone is nothing."""
        return self._every != 1 or self._pipeline.pending or self._progress.fresh or self._episodes.fresh

    def _emit(self) -> None:
        """Emits what came since the last time."""
        step = self._at + self._offset
        figures = self._progress.counters(step)
        if self._progress.fresh:
            figures.update(self._progress.figures())
        if self._episodes.fresh:
            figures.update(self._episodes.figures())
        self._pipeline.emit(step, own=figures)
        self._episodes.fresh = False

    def _take(self, episode: Mapping[str, Any]) -> None:
        """Takes an episode that ended with this step, into the window that the next emission empties."""
        for key, value in self._episodes.add(episode).items():
            self._pipeline.record(key, value, "mean")

    def _candidates_evaluated(self) -> None:
        """Takes the episodes of candidates that were evaluated since the last call, of which no infos tell."""
        episodes = self._episodes.of_candidates()
        for episode in episodes:
            self._take(episode)
        if episodes and self._follows:
            self._pipeline.emit(self._run_step(self._at))

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
