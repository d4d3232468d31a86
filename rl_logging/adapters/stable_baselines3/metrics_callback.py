"""The callback that logs what an algorithm and its callbacks record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from stable_baselines3.common.callbacks import BaseCallback

from rl_logging.adapters.stable_baselines3.outermost import CallbackTap, outermost
from rl_logging.adapters.stable_baselines3.training import Training, tell_of_failure

_NOTHING: Final = ("", 0, None)


class MetricsCallback(BaseCallback):  # type: ignore[misc]
    """Logs all that an algorithm and its callbacks record into stable-baselines3's logger.

    At the setting ``interval: framework`` the points are those of stable-baselines3's own TensorBoard file, by its own
    rule, besides what it keeps out of that file, and the last window, which it drops. At the other settings every
    value recorded counts, and those between two emissions are reduced to one. Pictures, videos and hyperparameters
    recorded there are logged as such; ``exclude="rl_logging"`` keeps a value out. Besides: the returns and lengths of
    the last 100 finished episodes, and the times of rollouts and updates.

    It serves several trainings, one after the other, and hears of every step below another callback too, such as an
    ``EveryNTimesteps``: what says how often it logs is the interval. A copy of it, in another process say, logs
    nothing. An exception of the logging never reaches the training.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        verbose: As in every callback; this one has nothing to say.
    """

    def __init__(self, logger: Any, verbose: int = 0) -> None:
        super().__init__(verbose)
        self._experiment = logger
        self._training: Training | None = None
        self._started = False
        self._above: BaseCallback | None = None
        self._told: tuple[str, int, object] = _NOTHING

    def _init_callback(self) -> None:
        # Not at the training's start, when other callbacks may already have recorded something.
        if self._experiment is not None:
            self._safely("begin", self._begin)

    def _on_training_start(self) -> None:
        self._started = True
        if self._training is not None:
            self._safely("start", self._training.start)
            self._safely("listen above", self._listen_above)

    def _on_rollout_start(self) -> None:
        if self._above is None:
            self._rollout_starts()

    def _on_step(self) -> bool:
        if not self._started:
            self._on_training_start()  # below one that tells of no start, as EvalCallback its callback_on_new_best
        if self._above is None:
            self._step(self.locals)
        return True

    def _on_rollout_end(self) -> None:
        if self._above is None:
            self._rollout_ends()

    def _on_training_end(self) -> None:
        self._safely("end", self._end)

    def _begin(self) -> None:
        self._end()  # of a training that an exception left nobody was told
        self._above = None
        self._started = False
        self._training = Training(self._experiment, self.model)

    def _end(self) -> None:
        training, self._training = self._training, None
        self._told = _NOTHING
        if training is not None:
            training.end()

    def _listen_above(self) -> None:
        """Hears by the callback that the algorithm tells of everything what it is not told itself."""
        above, training = outermost(self), self._training
        if above is not None and training is not None and self._above is None:
            self._above = above
            listeners: dict[str, Callable[[], None]] = {
                "on_rollout_start": self._rollout_starts,
                "on_step": lambda: self._step(above.locals),
                "on_rollout_end": self._rollout_ends,
                "on_training_end": self._on_training_end,
            }
            training.at_end(CallbackTap(above, listeners).leave)

    # What it is told: once, however often it stands among the callbacks.

    def _rollout_starts(self) -> None:
        if self._training is not None and self._is_news("rollout_starts"):
            self._safely("rollout_starts", self._training.rollout_starts)

    def _step(self, names: dict[str, Any]) -> None:
        # Called most often, so there is nothing here that need not be.
        if self._training is not None and self._is_news("step", names.get("infos")):
            try:
                self._training.step(names)
            except Exception as error:
                self._failed("step", error)

    def _rollout_ends(self) -> None:
        if self._training is not None and self._is_news("rollout_ends"):
            self._safely("rollout_ends", self._training.rollout_ends)

    def _is_news(self, what: str, infos: object = None) -> bool:
        """Returns whether it was not told of this just before; a step is known by its infos, too."""
        at = self.model.num_timesteps
        told = self._told
        if told[0] == what and told[1] == at and told[2] is infos:
            return False
        self._told = (what, at, infos)
        return True

    def _safely(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._failed(what, error)

    def _failed(self, what: str, error: Exception) -> None:
        tell_of_failure(self._experiment, what, self.num_timesteps, error)

    def __reduce__(self) -> tuple[Any, ...]:
        return _silent, (self.verbose,)


def _silent(verbose: int) -> MetricsCallback:
    """Returns a callback that logs nothing: the run belongs to the one it is a copy of."""
    return MetricsCallback(None, verbose)
