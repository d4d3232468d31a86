"""The base class of callbacks that log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from stable_baselines3.common.callbacks import BaseCallback

from rl_logging.adapters.stable_baselines3.session import Session
from rl_logging.settings.callbacks import AnySettings, parse, unknown

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

    def on_training_start(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        """Called by the algorithm at the start of a training, when all callbacks have been initialised."""
        self.need_experiment()
        self._clock = Session.of(self.experiment).clock_of(self.model)
        timesteps = int(self.model.num_timesteps)
        self._offset = self._clock.at(timesteps) - timesteps
        # The same clock that MetricsCallback sets, for whoever uses this one without it.
        self.experiment.set_clock(self.run_step)
        super().on_training_start(locals_, globals_)

    def on_training_end(self) -> None:
        """Called by the algorithm at the end of a training, though not after an exception."""
        super().on_training_end()
        final = self._clock.at(int(self.model.num_timesteps))  # a next training goes on from here
        self.experiment.set_clock(lambda: final)

    def run_step(self) -> int:
        """Returns the run's step at this moment of a training: its environment steps, on the run's clock."""
        return int(self.model.num_timesteps) + self._offset

    def need_experiment(self) -> None:
        """Raises a TypeError that says what to write, where `experiment` is none."""
        if not hasattr(self.experiment, "log_metrics"):
            raise TypeError(
                f"{type(self).__name__}: the experiment is a {type(self.experiment).__name__}, not an "
                "ExperimentLogger: write super().__init__(logger)"
            )

    def attempt(self, what: str, action: Callable[[], Returned]) -> Returned | None:
        """Does what may fail without harm to the training: an error is a warning, once, and gives None."""
        try:
            return action()
        except Exception as error:
            self.experiment.warn_once(
                f"stable_baselines3/{type(self).__name__} {what}",
                f"{what} at step {self.num_timesteps} failed: {type(error).__name__}: {error} (the training goes on, "
                "and it is tried again when it is due; this is told once)",
            )
            return None


class EverySteps:
    """Says when something is due that is done every so many environment steps.

    Steps of several environments come in one: it is due in the call in which a multiple is reached or passed.

    Args:
        every_steps: The number.
    """

    def __init__(self, every_steps: int) -> None:
        self.every_steps = every_steps
        self._before = 0

    def start(self, timesteps: int) -> None:
        """A training starts at this count."""
        self._before = timesteps

    def due(self, timesteps: int) -> bool:
        """Returns whether it is due, the training having come to this count."""
        before, self._before = self._before, timesteps
        return timesteps // self.every_steps > before // self.every_steps


def checked(kind: type[AnySettings], callback: str, given: Mapping[str, Any], others: Mapping[str, Any]) -> AnySettings:
    """Returns a callback's arguments as settings.

    Args:
        kind: Which.
        callback: The callback's name, for errors.
        given: The arguments.
        others: Arguments that there are not.

    Raises:
        TypeError: There are such.
        SettingsError: A value is wrong.
    """
    for name in others:
        raise TypeError(f"{callback}: {name}: {unknown(name, kind.__struct_fields__)}")
    settings = parse(kind, callback, dict(given))
    assert settings is not None
    return settings
