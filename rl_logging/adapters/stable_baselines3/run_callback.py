"""The callback that is a run of its own."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from rl_logging.adapters.stable_baselines3.callbacks import make_callbacks
from rl_logging.logger import ExperimentLogger
from rl_logging.settings import load


class RunCallback(BaseCallback):  # type: ignore[misc]
    """Opens a run at the start of each training, logs it as `make_callbacks` does, and finishes it at the end.

    For programs that make their callbacks from a name and arguments, such as RL Zoo. A training that an exception
    ends is a failed run, which is finished at the process's exit.

    Args:
        config: As of `rl_logging.ExperimentLogger`, such as the path of a YAML file.
        verbose: As in every callback.
        **keywords: Keywords of `rl_logging.ExperimentLogger`.

    Raises:
        SettingsError: A setting is wrong.
    """

    def __init__(self, config: Any = None, verbose: int = 0, **keywords: Any) -> None:
        super().__init__(verbose)
        load(config, keywords)  # what is wrong is told now, not at the training's start
        self._config = config
        self._keywords = keywords
        self.experiment: ExperimentLogger | None = None
        self._callbacks = CallbackList([])

    def _init_callback(self) -> None:
        if self.experiment is not None:
            self.experiment.finish("failed")  # of a training that an exception left
        self.experiment = ExperimentLogger(self._config, self.training_env, **self._keywords)
        self._callbacks = CallbackList(make_callbacks(self.experiment, verbose=self.verbose))
        self._callbacks.init_callback(self.model)

    def _on_training_start(self) -> None:
        self._callbacks.on_training_start(self.locals, self.globals)

    def _on_rollout_start(self) -> None:
        self._callbacks.on_rollout_start()

    def _on_step(self) -> bool:
        return bool(self._callbacks.on_step())

    def _on_rollout_end(self) -> None:
        self._callbacks.on_rollout_end()

    def _on_training_end(self) -> None:
        callbacks, self._callbacks = self._callbacks, CallbackList([])  # RL Zoo ends a training twice
        callbacks.on_training_end()
        experiment, self.experiment = self.experiment, None
        if experiment is not None:
            experiment.finish()

    def update_child_locals(self, locals_: dict[str, Any]) -> None:
        """Passes the training's variables on."""
        self._callbacks.update_locals(locals_)
