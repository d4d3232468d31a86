"""The callback that saves a model while it is trained."""

from __future__ import annotations

from typing import Any

from rl_logging.adapters.stable_baselines3.loading import is_saved_as
from rl_logging.adapters.stable_baselines3.outermost import CallbackTap, outermost
from rl_logging.adapters.stable_baselines3.periodic_callback import PeriodicCallback, checked
from rl_logging.run.models import StableBaselines3Model
from rl_logging.run.retention import LocalCopies, earlier_versions
from rl_logging.run.saved_model import SavedModel
from rl_logging.settings.callbacks import CheckpointSettings


class CheckpointCallback(PeriodicCallback):
    """Saves the model every so many environment steps, and at the end of the training, as ``latest``.

    A training that an exception or Ctrl-C ends has its last checkpoint when the logger is finished. Below another
    callback, such as an ``EveryNTimesteps``, it looks when that one calls it, and hears of the training's end by
    itself. A save that fails is a warning; the training goes on.

    Args:
        experiment: The `rl_logging.ExperimentLogger`.
        every_steps: Environment steps from one checkpoint to the next, however many environments.
        keep_last: How many checkpoints stay in the run directory; None: all. One that a store does not have yet stays
            until it has it.
        upload: What the stores get: ``all`` checkpoints, the ``last`` one at the end of a training, or ``none``. With
            ``best`` none of these either: only the best models, which `EvalCallback` saves.
        vec_normalize: Whether a checkpoint holds the statistics of the training's VecNormalize.
        replay_buffer: Whether it holds the replay buffer of an off-policy algorithm.
        name: The model's name.
        verbose: As in every callback; this one has nothing to say.

    Raises:
        ValueError: An argument is wrong.
        TypeError: There is no such argument; for stable-baselines3's, the message says which one is meant.
    """

    settings: CheckpointSettings

    def __init__(
        self,
        experiment: Any,
        *,
        every_steps: int = 50_000,
        keep_last: int | None = None,
        upload: str = "all",
        vec_normalize: bool = True,
        replay_buffer: bool = False,
        name: str = "checkpoint",
        verbose: int = 0,
        **others: Any,
    ) -> None:
        super().__init__(experiment, checked(CheckpointSettings, type(self).__name__, locals()), verbose)
        self.name = name
        earlier = () if self.settings.keep_last is None else earlier_versions(experiment, name)
        self._copies = LocalCopies(experiment.discard_model, self.settings.keep_last, earlier)
        self._training = False
        self._above: CallbackTap | None = None
        self._last: tuple[SavedModel, bool] | None = None
        experiment.on_finish(self._finish)
        experiment.on_finish(self._copies.prune, last=True)

    def _on_training_start(self) -> None:
        self._begin()

    def _on_step(self) -> bool:
        if not self._training:
            self._begin()  # below one that tells of no start, as EvalCallback its callback_on_new_best
        if self.is_due():
            self._attempt("periodic", self.run_step(), upload=self.settings.upload == "all")
        return True

    def _on_training_end(self) -> None:
        self._end("final")

    def _finish(self) -> None:
        self._end("interrupted")

    def _begin(self) -> None:
        self._training = True
        self._leave_above()  # of a training that an exception left nobody was told
        above = outermost(self)
        if above is not None:
            # One that passes on neither all steps nor the end.
            self._above = CallbackTap(above, {"on_training_end": self.on_training_end})

    def _end(self, why: str) -> None:
        self._leave_above()
        if self._training:  # RL Zoo, for one, ends a training twice
            self._training = False
            # The run's, as the model may have begun anew since this one was told of a step.
            step = self._clock.at(int(self.model.num_timesteps))
            upload = self.settings.upload in ("all", "last")
            if not self.attempt("looking at the last checkpoint", lambda: self._has_saved(step, upload)):
                self._attempt(why, step, upload=upload)

    def _leave_above(self) -> None:
        above, self._above = self._above, None
        if above is not None:
            above.leave()

    def _has_saved(self, step: int, upload: bool) -> bool:
        """Returns whether the last checkpoint, of this step and with these weights, is where this one should be."""
        if self._last is None or self.settings.replay_buffer:  # which a step goes on filling
            return False
        saved, uploaded = self._last
        return saved.step == step and uploaded == upload and is_saved_as(self.model, saved.path)

    def _attempt(self, why: str, step: int, *, upload: bool) -> None:
        self.attempt("saving a checkpoint", lambda: self._save(why, step, upload=upload))

    def _save(self, why: str, step: int, *, upload: bool) -> None:
        saved = self.experiment.save_model(
            StableBaselines3Model(self.model, self.settings.vec_normalize, self.settings.replay_buffer),
            name=self.name,
            metadata={"timesteps": int(self.model.num_timesteps), "checkpoint": why},
            step=step,
            aliases=("latest",),
            upload=upload,
        )
        self._last = None if saved is None else (saved, upload)
        self._copies.add(saved)
