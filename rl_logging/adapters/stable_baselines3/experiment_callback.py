"""The base class of callbacks that log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from stable_baselines3.common.callbacks import BaseCallback

from rl_logging.adapters.stable_baselines3.session import Session

Returned = TypeVar("Returned")


class ExperimentCallback(BaseCallback):  # type: ignore[misc]
    """A callback that has the run at `experiment`: the base class for your own.

    What it logs without a step is logged at the training's. It serves several trainings, one after the other.

    Args:
        experiment: The `rl_logging.ExperimentLogger`; it may be set later, but before the training.
        verbose: As in every callback.

    Attributes:
        experiment: The same; `logger` is stable-baselines3's own, and cannot be set.

    Raises:
        TypeError: `experiment` is none.
    """

    def __init__(self, experiment: Any = None, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.experiment = experiment
        if experiment is not None:  # else it may still be set
            self.need_experiment()

    @property
    def logger(self) -> Any:
        """stable-baselines3's logger of the training; what is recorded there is logged as well."""
        return self.model.logger

    @logger.setter
    def logger(self, value: object) -> None:
        raise AttributeError(
            f"{type(self).__name__}: 'logger' is stable-baselines3's own, and cannot be set: write "
            "super().__init__(logger) instead of self.logger = logger, and self.experiment.log_metrics(...)"
        )

    def init_callback(self, model: Any) -> None:
        """Called by the algorithm at the start of a training, before any callback is told of it.

        Raises:
            TypeError: A constructor of a derived class does not call this one's.
        """
        if "n_calls" not in vars(self):
            raise TypeError(
                f"{type(self).__name__}: its __init__ does not call that of ExperimentCallback: begin it with "
                "super().__init__(logger)"
            )
        super().init_callback(model)
        if self.experiment is not None:
            # Not at the training's start alone, of which a callback_on_new_best of stable-baselines3's is not told.
            self._take_clock()

    def on_training_start(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        """Called by the algorithm at the start of a training, when all callbacks have been initialised."""
        self._take_clock()
        super().on_training_start(locals_, globals_)

    def on_training_end(self) -> None:
        """Called by the algorithm at the end of a training, though not after an exception."""
        super().on_training_end()
        # A next training goes on from here.
        self.experiment.set_clock(self._clock.at(int(self.model.num_timesteps)))

    def run_step(self) -> int:
        """Returns the run's step at this moment of a training: its environment steps, on the run's clock."""
        return int(self.model.num_timesteps) + self._offset

    def _take_clock(self) -> None:
        """Takes the clock of the training that begins; may be called again."""
        self.need_experiment()
        self._clock = Session.of(self.experiment).clock_of(self.model)
        timesteps = int(self.model.num_timesteps)
        self._offset = self._clock.at(timesteps) - timesteps
        # The same clock that MetricsCallback sets, for whoever uses this one without it.
        self.experiment.set_clock(self.run_step)

    def need_experiment(self) -> None:
        """Raises a TypeError that says what to write, where `experiment` is none."""
        if not hasattr(self.experiment, "log_metrics"):
            raise TypeError(
                f"{type(self).__name__}: the experiment is a {type(self.experiment).__name__}, not an "
                "ExperimentLogger: write super().__init__(logger)"
            )

    def attempt(self, what: str, action: Callable[[], Returned]) -> Returned | None:
        """Does what may fail without harm to the training: an error is a warning, once, and gives None.

        Its time is not counted in the run's ``fps`` and ``rollout_time``.
        """
        try:
            with Session.of(self.experiment).aside:
                return action()
        except Exception as error:
            self.experiment.warn_once(
                f"stable_baselines3/{type(self).__name__} {what}",
                f"{what} at step {self.num_timesteps} failed: {type(error).__name__}: {error} (the training goes on, "
                "and it is tried again when it is due; this is told once)",
            )
            return None
