"""The callbacks that a run asks for."""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium as gym
import msgspec
from stable_baselines3.common.callbacks import BaseCallback

from rl_logging.adapters.stable_baselines3.checkpoint_callback import CheckpointCallback
from rl_logging.adapters.stable_baselines3.environments import EnvError, make_by, make_env, recipe_of
from rl_logging.adapters.stable_baselines3.eval_callback import EvalCallback
from rl_logging.adapters.stable_baselines3.isolation import preserved
from rl_logging.adapters.stable_baselines3.metrics_callback import MetricsCallback
from rl_logging.adapters.stable_baselines3.video_callback import VideoRecorderCallback
from rl_logging.settings.callbacks import (
    AnySettings,
    CheckpointSettings,
    EvalSettings,
    VideoSettings,
    parse,
    unknown,
)
from rl_logging.settings.sections import SettingsError


def make_callbacks(
    logger: Any,
    eval_env: Any = None,
    *,
    video_env: Any = None,
    eval: Any = None,
    checkpoint: Any = None,
    video: Any = None,
    callback_on_new_best: BaseCallback | None = None,
    callback_after_eval: BaseCallback | None = None,
    verbose: int = 0,
    **others: Any,
) -> list[BaseCallback]:
    """Returns the callbacks that log a training, for ``model.learn(callback=...)``.

    There is always a `MetricsCallback`. The others are there where the settings ``rl_logging.eval``, ``.checkpoint``
    and ``.video`` or the arguments ask for them; `eval_env` and `video_env` ask for them, too.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        eval_env: Where to evaluate; see `EvalCallback`.
        video_env: What to record; see `VideoRecorderCallback`. None: the evaluation's, where it is a Gymnasium
            environment that renders ``rgb_array`` or that another one of can be made.
        eval: A mapping of `EvalCallback`'s settings, over those of the configuration; True: with these; False: none.
        checkpoint: The same, of `CheckpointCallback`.
        video: The same, of `VideoRecorderCallback`.
        callback_on_new_best: See `EvalCallback`.
        callback_after_eval: See `EvalCallback`.
        verbose: As in every callback.
        **others: None; one of stable-baselines3's own raises an error that says which is meant.

    Raises:
        SettingsError: A setting is wrong; the message names the key.
        TypeError: There is no such argument.
        ValueError: There is no environment to evaluate in, or to record.
    """
    for name in others:
        known = tuple(inspect.signature(make_callbacks).parameters)[1:-1]
        raise TypeError(f"get_callbacks: {name}: {unknown(name, known)}")
    settings = logger.settings
    evaluates = _merged(EvalSettings, "eval", settings.eval, eval, asked=eval_env is not None)
    saves = _merged(CheckpointSettings, "checkpoint", settings.checkpoint, checkpoint)
    records = _merged(VideoSettings, "video", settings.video, video, asked=video_env is not None)
    if saves is not None and saves.upload == "best" and (evaluates is None or not evaluates.save_best):
        raise SettingsError("checkpoint.upload: 'best' needs rl_logging.eval with save_best, which says what is best")
    callbacks: list[BaseCallback] = [MetricsCallback(logger, verbose=verbose)]
    if evaluates is not None:
        callbacks.append(
            EvalCallback(
                logger,
                eval_env,
                **msgspec.structs.asdict(evaluates),
                upload=saves is None or saves.upload in ("all", "best"),
                callback_on_new_best=callback_on_new_best,
                callback_after_eval=callback_after_eval,
                verbose=verbose,
            )
        )
    if saves is not None:
        callbacks.append(CheckpointCallback(logger, **msgspec.structs.asdict(saves), verbose=verbose))
    if records is not None:
        env = video_env if video_env is not None else _like(eval_env)
        callbacks.append(VideoRecorderCallback(logger, env, **msgspec.structs.asdict(records), verbose=verbose))
    return callbacks


def _merged(
    kind: type[AnySettings], key: str, configured: AnySettings | None, given: Any, *, asked: bool = False
) -> AnySettings | None:
    """Returns the settings of one callback: the arguments' over the configuration's; None where there is to be none."""
    if given is None:
        return configured if configured is not None or not asked else kind()
    if given is False or given is True:
        return (configured or kind()) if given else None
    parsed = parse(kind, key, given)
    if parsed is None or configured is None or not isinstance(given, dict):
        return parsed
    return msgspec.structs.replace(configured, **{name: getattr(parsed, name) for name in given})


def _like(eval_env: Any) -> Any:
    """Returns an environment to record that is like the evaluation's; None where there is no telling."""
    if eval_env is None or isinstance(eval_env, str):
        return eval_env
    with preserved():
        made = make_env(eval_env)
        try:
            if isinstance(made, gym.Env) and made.render_mode == "rgb_array":
                return eval_env
            recipe = recipe_of(made)
        except EnvError:
            return None
        finally:
            if made is not eval_env:
                made.close()
    return lambda: make_by(recipe, render_mode="rgb_array")
