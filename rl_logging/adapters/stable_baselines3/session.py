"""What the trainings that one logger logs have in common."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Final, Protocol

from rl_logging.adapters.stable_baselines3.progress import Aside
from rl_logging.extraction.clock import Clock
from rl_logging.extraction.pipeline import Pipeline

_ATTRIBUTE: Final = "_stable_baselines3_session"


class Ongoing(Protocol):
    """A training that is logged."""

    model: Any

    def end(self) -> None:
        """Ends its logging."""
        ...


class Leftover:
    """What a stable-baselines3 logger holds unwritten at the end of a training.

    Args:
        target: That logger.
        values: What it holds.
        pipeline: Through which to log it.
        step: The run's step.
    """

    def __init__(self, target: Any, values: Mapping[str, Any], pipeline: Pipeline, step: int) -> None:
        self._target = weakref.ref(target)
        self._values = dict(values)
        self._pipeline = pipeline
        self._step = step

    def belongs_to(self, target: Any) -> bool:
        """Returns whether it is `target` that holds it."""
        return self._target() is target

    def log(self, besides: Mapping[str, Any] | None = None) -> None:
        """Logs it.

        Args:
            besides: What a logger still holds, and will write: this is not logged.
        """
        held = besides or {}
        missing = object()
        values = {key: value for key, value in self._values.items() if held.get(key, missing) is not value}
        if values:
            self._pipeline.log(values, self._step)


class Session:
    """The trainings of one logger: on one clock, and each with an end even where an exception ended it.

    Args:
        logger: The `rl_logging.ExperimentLogger`.

    Attributes:
        clock: The run's.
        aside: Clocks what is done besides training.
    """

    def __init__(self, logger: Any) -> None:
        self._on_step_reset = logger.settings.on_step_reset
        self._take_restored_step = logger.take_restored_step
        self._warn = logger.warn_once
        self.clock = self._clock_from(0)
        self._clocked: weakref.ref[Any] | None = None
        self._ongoing: list[Ongoing] = []
        self._leftovers: list[Leftover] = []
        self._described: weakref.ref[Any] | None = None
        self.aside = Aside()
        logger.on_finish(self.finish)

    @classmethod
    def of(cls, logger: Any) -> Session:
        """Returns the session of `logger`, which keeps it, so that both live equally long."""
        session: Session | None = vars(logger).get(_ATTRIBUTE)
        if session is None:
            session = cls(logger)
            setattr(logger, _ATTRIBUTE, session)
        return session

    def clock_of(self, model: Any) -> Clock:
        """Returns the clock of a training of `model` that begins.

        Where the logger's `load_state_dict` has set the clock, the run goes on from there. Another model's count is
        none of the run's: whatever it begins with, the run goes on from where it is. Told to restart, it does neither.
        """
        begins_at = self._take_restored_step()
        if begins_at is None and self._clocked is not None and self._clocked() is not model:
            begins_at = self.clock.now
        if begins_at is not None and self._on_step_reset == "continue":
            self.clock = self._clock_from(begins_at - int(model.num_timesteps))
        self._clocked = weakref.ref(model)
        return self.clock

    def _clock_from(self, initial_step: int) -> Clock:
        return Clock(on_step_reset=self._on_step_reset, initial_step=initial_step, warn=self._warn)

    def end_those_of(self, model: Any) -> None:
        """Ends what is ongoing of `model`, which begins a training: an exception has left it."""
        for training in [training for training in self._ongoing if training.model is model]:
            training.end()

    def begin(self, training: Ongoing) -> None:
        """Takes up a training."""
        self._ongoing.append(training)

    def leave(self, training: Ongoing) -> None:
        """Lets a training go that ends."""
        self._ongoing = [other for other in self._ongoing if other is not training]

    def keep(self, leftover: Leftover) -> None:
        """Keeps what a logger of the user's holds: it may come with the next training's first dump."""
        self._leftovers.append(leftover)

    def settle(self, target: Any) -> None:
        """Settles what was kept of the stable-baselines3 logger `target`, which is now listened to again."""
        for leftover in [leftover for leftover in self._leftovers if leftover.belongs_to(target)]:
            self._leftovers.remove(leftover)
            leftover.log(besides=target.name_to_value)

    def is_new(self, model: Any) -> bool:
        """Returns whether `model` is another than at the last call."""
        known = self._described is not None and self._described() is model
        self._described = weakref.ref(model)
        return not known

    def finish(self) -> None:
        """Ends what is ongoing, and logs what was kept."""
        for training in list(self._ongoing):
            training.end()
        leftovers, self._leftovers = self._leftovers, []
        for leftover in leftovers:
            leftover.log()
