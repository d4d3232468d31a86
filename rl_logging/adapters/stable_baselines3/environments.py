"""Environments beside the training's: another of its kind, wrapped as it is."""

from __future__ import annotations

import copy
from typing import Any, Final

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    is_vecenv_wrapped,
)

from rl_logging.run.env_info import spec_of

_KNOWN: Final = (VecNormalize, VecFrameStack, VecTransposeImage)
# Monitor is put around the new one as well; the others write or show what is the training's.
_LEFT_OUT: Final = frozenset({"Monitor", "RecordVideo", "RenderCollection", "HumanRendering"})


class EnvError(ValueError):
    """An environment cannot be had, or does not fit; the message says what to give."""


def make_env(source: Any, *, render_mode: str | None = None) -> Any:
    """Returns an environment.

    Args:
        source: The id of a registered one, a callable that makes one, or one itself.
        render_mode: How one that is made by its id renders.

    Raises:
        EnvError: It is none of these.
    """
    if isinstance(source, str):
        return gym.make(source, render_mode=render_mode)
    made = source if isinstance(source, (gym.Env, VecEnv)) or not callable(source) else source()
    if not isinstance(made, (gym.Env, VecEnv)):
        raise EnvError(
            f"a {type(made).__name__} is no environment: give a Gymnasium environment, a VecEnv, an environment's id, "
            "or a callable that makes one"
        )
    return made


def recipe_of(env: Any) -> EnvSpec:
    """Returns how to make another environment of `env`'s kind, with the same arguments and wrappers.

    Args:
        env: A Gymnasium environment or a VecEnv of such, made by ``gymnasium.make``.

    Raises:
        EnvError: There is no telling how.
    """
    spec = spec_of(env)
    if spec is None:
        raise EnvError(f"the environment {type(env).__name__} has no spec, as it was not made by gymnasium.make")
    spec = copy.deepcopy(spec)
    wrappers = [wrapper for wrapper in spec.additional_wrappers if wrapper.entry_point.split(":")[-1] not in _LEFT_OUT]
    for wrapper in wrappers:
        if wrapper.kwargs is None:
            raise EnvError(
                f"the environment's wrapper {wrapper.name} does not say how to make another of it (it is no "
                "gymnasium.utils.RecordConstructorArgs)"
            )
    spec.additional_wrappers = tuple(wrappers)
    return spec


def make_by(recipe: EnvSpec, *, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Returns a new environment.

    Args:
        recipe: Of `recipe_of`.
        render_mode: How it renders; the first one's own mode, a window perhaps, is not taken over.

    Raises:
        EnvError: It cannot be made.
    """
    try:
        return gym.make(recipe, render_mode=render_mode)
    except Exception as error:  # whatever its constructors raise: the user can give one instead
        raise EnvError(f"another {recipe.id} cannot be made: {type(error).__name__}: {error}") from error


def vectorized(env: Any) -> VecEnv:
    """Returns `env` as a VecEnv, its episodes counted by a Monitor where it is no VecEnv yet."""
    if isinstance(env, VecEnv):
        return env
    watched = env if is_wrapped(env, Monitor) else Monitor(env)
    return DummyVecEnv([lambda: watched])


def is_monitored(env: VecEnv) -> bool:
    """Returns whether the returns of `env`'s episodes are counted before other wrappers change its rewards."""
    return bool(is_vecenv_wrapped(env, VecMonitor) or env.env_is_wrapped(Monitor)[0])


def fitted(env: VecEnv, training_env: VecEnv) -> VecEnv:
    """Returns `env`, wrapped as the training's environment is, so that a policy of the one can act in the other.

    VecNormalize (which does not train), VecFrameStack and VecTransposeImage are put around it where they are missing.

    Raises:
        EnvError: It is the training's own, or does not fit it.
    """
    if shares(env, training_env):
        raise EnvError("it is the training's own environment, whose episodes it would break off: give another one")
    theirs, ours = _wrappers(training_env), _wrappers(env)
    if [_kind(wrapper) for wrapper in ours] == [_kind(wrapper) for wrapper in theirs[: len(ours)]]:
        for wrapper in theirs[len(ours) :]:
            env = _rewrapped(wrapper, env)
    for name in ("observation_space", "action_space"):
        mine, wanted = getattr(env, name), getattr(training_env, name)
        if not _alike(mine, wanted):
            raise EnvError(f"its {name} {mine} is not the training's {wanted}: give one that is wrapped the same way")
    if (_normalizer(training_env) is None) != (_normalizer(env) is None):
        raise EnvError("of it and the training's, one alone has a VecNormalize: give one that is wrapped the same way")
    return env


def synchronize(env: VecEnv, training_env: VecEnv) -> None:
    """Gives `env`'s VecNormalize, where there is one, the training's statistics; it does not gather any itself."""
    normalizer, source = _normalizer(env), _normalizer(training_env)
    if normalizer is None:
        return
    normalizer.training = False
    normalizer.norm_reward = False
    if source is not None:
        if hasattr(source, "obs_rms"):
            normalizer.obs_rms = copy.deepcopy(source.obs_rms)
        normalizer.ret_rms = copy.deepcopy(source.ret_rms)


def shares(env: Any, other: Any) -> bool:
    """Returns whether two environments are the same one, however wrapped, as far as can be seen."""
    mine = {id(inner) for inner in _innermost(env)}
    return any(id(inner) in mine for inner in _innermost(other))


def _innermost(env: Any) -> list[Any]:
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    if isinstance(env, DummyVecEnv):
        return [single.unwrapped for single in env.envs]
    return [env.unwrapped] if isinstance(env, gym.Env) else [env]


def _wrappers(env: VecEnv) -> list[VecEnvWrapper]:
    """Returns the wrappers of the kinds that are known here, innermost first."""
    found: list[VecEnvWrapper] = []
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, _KNOWN):
            found.insert(0, env)
        env = env.venv
    return found


def _kind(wrapper: VecEnvWrapper) -> type[VecEnvWrapper]:
    kind: type[VecEnvWrapper] = next(kind for kind in _KNOWN if isinstance(wrapper, kind))
    return kind


def _rewrapped(wrapper: VecEnvWrapper, env: VecEnv) -> VecEnv:
    if isinstance(wrapper, VecNormalize):
        return VecNormalize(
            env,
            training=False,
            norm_obs=wrapper.norm_obs,
            norm_reward=False,
            clip_obs=wrapper.clip_obs,
            clip_reward=wrapper.clip_reward,
            gamma=wrapper.gamma,
            epsilon=wrapper.epsilon,
            norm_obs_keys=wrapper.norm_obs_keys,
        )
    if isinstance(wrapper, VecFrameStack):
        return VecFrameStack(env, wrapper.stacked_obs.n_stack, channels_order=_channels_order(wrapper.stacked_obs))
    return VecTransposeImage(env, skip=wrapper.skip)


def _channels_order(stacked: Any) -> Any:
    parts = getattr(stacked, "sub_stacked_observations", None)
    if parts is not None:
        return {key: _channels_order(part) for key, part in parts.items()}
    return "first" if stacked.channels_first else "last"


def _normalizer(env: Any) -> VecNormalize | None:
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecNormalize):
            return env
        env = env.venv
    return None


def _alike(mine: Any, wanted: Any) -> bool:
    """Returns whether two spaces have members of one form; a box's bounds may differ."""
    if mine == wanted:
        return True
    return isinstance(mine, gym.spaces.Box) and mine.shape == wanted.shape and mine.dtype == wanted.dtype
