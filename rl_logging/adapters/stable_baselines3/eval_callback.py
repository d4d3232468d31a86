"""The callback that evaluates a policy while it is trained, and keeps the best one."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any, Final

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from rl_logging.adapters.stable_baselines3.beside import Beside
from rl_logging.adapters.stable_baselines3.environments import (
    EnvError,
    is_monitored,
    make_by,
    make_env,
    recipe_of,
    shares,
    vectorized,
)
from rl_logging.adapters.stable_baselines3.evaluation import SCORE, Evaluation, evaluate
from rl_logging.adapters.stable_baselines3.isolation import preserved
from rl_logging.adapters.stable_baselines3.periodic_callback import PeriodicCallback, checked
from rl_logging.adapters.videos import watch_env
from rl_logging.extraction.names import NameTable
from rl_logging.run.models import METADATA, StableBaselines3Model
from rl_logging.run.retention import LocalCopies, earlier_versions
from rl_logging.settings.callbacks import EvalSettings

_NAME: Final = "best"
_PURPOSE: Final = 1


class EvalCallback(PeriodicCallback):
    """Evaluates the policy every so many environment steps, logs what comes of it, and keeps the best model.

    Logged are ``eval/episode_reward_mean`` with ``_std``, ``_min`` and ``_max``, ``eval/episode_length_mean``, and
    ``eval/success_rate`` where the environment's infos have ``is_success``, at the training's step. The best model is
    saved as ``best``, with its VecNormalize.

    The training is the same with it and without it: the environment is another one, and global random generators
    and the policy's mode are put back. An evaluation that fails is a warning; the training goes on.

    Args:
        experiment: The `rl_logging.ExperimentLogger`.
        eval_env: A Gymnasium environment, a VecEnv, an environment's id, or a callable that makes one; not the
            training's own. None: another one like the logger's `env`. It is wrapped as the training's is.
        every_steps: Environment steps of the training from one evaluation to the next, however many environments.
        episodes: Episodes of one evaluation.
        deterministic: Whether the policy takes its likeliest action, instead of sampling.
        seed: Of the environment and the sampling; None: follows from the training's seed, and an environment that
            was handed over is not seeded.
        save_best: Whether the best model is kept.
        keep_last: How many of the best ones stay in the run directory once the stores have them; None: all.
        upload: Whether the stores get them.
        callback_on_new_best: Called after each evaluation that is the best so far, such as
            ``StopTrainingOnRewardThreshold``.
        callback_after_eval: Called after each evaluation, such as ``StopTrainingOnNoModelImprovement``.
        verbose: As in every callback; 1 prints each evaluation.

    Attributes:
        last_mean_reward: Of the last evaluation; minus infinity before the first.
        best_mean_reward: The best so far, of this run.

    Raises:
        ValueError: There is no environment to evaluate in, or it does not fit the training's (at the start of the
            training); or an argument is wrong.
        TypeError: There is no such argument; for stable-baselines3's, the message says which one is meant.
    """

    settings: EvalSettings

    def __init__(
        self,
        experiment: Any,
        eval_env: Any = None,
        *,
        every_steps: int = 10_000,
        episodes: int = 5,
        deterministic: bool = True,
        seed: int | None = None,
        save_best: bool = True,
        keep_last: int | None = 1,
        upload: bool = True,
        callback_on_new_best: BaseCallback | None = None,
        callback_after_eval: BaseCallback | None = None,
        verbose: int = 0,
        **others: Any,
    ) -> None:
        super().__init__(experiment, checked(EvalSettings, type(self).__name__, locals()), verbose)
        with preserved():
            bare = vectorized(_find_env(experiment, eval_env))
        what = f"{type(self).__name__}: eval_env"
        self._beside = Beside(bare, eval_env, what=what, seed=self.settings.seed, purpose=_PURPOSE)
        self.best_mean_reward = _best_so_far(experiment.run_dir)
        self.last_mean_reward = -math.inf
        self._upload = upload
        self._children = {"best": callback_on_new_best, "after": callback_after_eval}
        self._pipeline = experiment.pipeline(NameTable({}))
        earlier = () if self.settings.keep_last is None else earlier_versions(experiment, _NAME)
        self._copies = LocalCopies(experiment.discard_model, self.settings.keep_last, earlier)
        experiment.on_finish(self._copies.prune, last=True)
        if self._beside.is_own:
            experiment.on_finish(bare.close)
        for child in self._existing_children():
            child.parent = self

    @property
    def eval_env(self) -> VecEnv | None:
        """The environment, wrapped as the training's is; None before the first training."""
        return self._beside.env

    def _init_callback(self) -> None:
        self._fit_env()
        for child in self._existing_children():
            child.init_callback(self.model)

    def _on_training_start(self) -> None:
        for child in self._existing_children():
            child.on_training_start(self.locals, self.globals)

    def update_child_locals(self, locals_: dict[str, Any]) -> None:
        """Passes the training's variables on."""
        for child in self._existing_children():
            child.update_locals(locals_)

    def _on_step(self) -> bool:
        if not self.is_due():
            return True
        evaluation = self.attempt("the evaluation", self._evaluate)
        if evaluation is None:
            return True
        self.attempt("logging the evaluation", lambda: self._log(evaluation))
        goes_on = True
        self.last_mean_reward = evaluation.mean
        if evaluation.mean > self.best_mean_reward:
            self.best_mean_reward = evaluation.mean
            if self.settings.save_best:
                self.attempt("saving the best model", lambda: self._save(evaluation))
            goes_on = self._call("best")
        return self._call("after") and goes_on

    def _evaluate(self) -> Evaluation:
        with self._beside.lent_to(self.model, self.training_env):
            env = self.eval_env
            assert env is not None
            return evaluate(self.model, env, self.settings.episodes, deterministic=self.settings.deterministic)

    def _log(self, evaluation: Evaluation) -> None:
        if self.verbose:
            print(f"evaluation at step {self.num_timesteps}: mean return {evaluation.mean:.2f}")
        self._pipeline.canonical(evaluation.figures(), self.run_step())

    def _save(self, evaluation: Evaluation) -> None:
        metadata = {**evaluation.figures(), "eval/episodes": len(evaluation.returns), "timesteps": self.num_timesteps}
        saved = self.experiment.save_model(
            StableBaselines3Model(self.model),
            name=_NAME,
            metadata=metadata,
            step=self.run_step(),
            aliases=(_NAME,),
            upload=self._upload,
        )
        self._copies.add(saved)

    def _fit_env(self) -> None:
        env = self._beside.fit(self.model, self.training_env)
        watch_env(self.experiment, env, prefix="eval/")
        if not is_monitored(env):
            self.experiment.warn_once(
                "stable_baselines3/evaluation monitor",
                "the evaluation's environment has no Monitor: where a wrapper changes rewards or ends episodes, so are "
                "the returns that are logged; wrap it in stable_baselines3.common.monitor.Monitor first",
            )

    def _existing_children(self) -> list[BaseCallback]:
        return [child for child in self._children.values() if child is not None]

    def _call(self, which: str) -> bool:
        child = self._children[which]
        return True if child is None else bool(child.on_step())


def _best_so_far(run_dir: Path) -> float:
    """Returns the mean return of the best model that a run has already, one that is gone on with."""
    best = -math.inf
    for file in (run_dir / "models" / _NAME).glob(f"*/{METADATA}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # of a model that somebody else saved
            best = max(best, float(json.loads(file.read_text(encoding="utf-8"))["metadata"][SCORE]))
    return best


def _find_env(experiment: Any, given: Any) -> Any:
    """Returns what was given, or another environment like the logger's."""
    try:
        if given is not None:
            env = make_env(given)
            if experiment.env is not None and shares(env, experiment.env):
                raise EnvError("it is the training's own environment, whose episodes it would break off")
            return env
        if experiment.env is None:
            raise EnvError("there is no environment to evaluate in")
        return make_by(recipe_of(experiment.env))
    except EnvError as error:
        raise EnvError(
            f"evaluation: {error}: give one, as get_callbacks(eval_env=gym.make(...)) or EvalCallback(logger, "
            "eval_env=...), or the training's to ExperimentLogger(config, env), of which another is made; "
            "'rl_logging.eval: false' evaluates nothing"
        ) from None
