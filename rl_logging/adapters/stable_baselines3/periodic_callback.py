"""The base class of the callbacks that do something every so many environment steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_logging.adapters.stable_baselines3.experiment_callback import ExperimentCallback
from rl_logging.settings.callbacks import AnySettings, parse, unknown


class PeriodicCallback(ExperimentCallback):
    """A callback that has settings, of which `every_steps` is one.

    Args:
        experiment: The `rl_logging.ExperimentLogger`.
        settings: The settings, checked.
        verbose: As in every callback.

    Raises:
        TypeError: `experiment` is none.
    """

    def __init__(self, experiment: Any, settings: Any, verbose: int) -> None:
        super().__init__(experiment, verbose)
        self.need_experiment()
        self.settings = settings
        self._every = EverySteps(settings.every_steps)

    def init_callback(self, model: Any) -> None:
        """Called by the algorithm at the start of a training."""
        super().init_callback(model)
        self._every.start(int(model.num_timesteps))

    def is_due(self) -> bool:
        """Returns whether it is due in this step; asked once in each."""
        return self._every.due(self.num_timesteps)


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


def checked(kind: type[AnySettings], callback: str, names: Mapping[str, Any]) -> AnySettings:
    """Returns a callback's arguments as settings.

    Args:
        kind: Which.
        callback: The callback's name, for errors.
        names: What its constructor was given, by name; those that it does not know below ``others``.

    Raises:
        TypeError: There is no such argument.
        SettingsError: A value is wrong.
    """
    known = kind.__struct_fields__
    for name in names["others"]:
        raise TypeError(f"{callback}: {name}: {unknown(name, known)}")
    settings = parse(kind, callback, {name: value for name, value in names.items() if name in known})
    assert settings is not None
    return settings
