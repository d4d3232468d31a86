"""Configurations of skrl's Runner for Gymnasium tasks: an agent that learns the classic ones, for each algorithm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import gymnasium as gym
import skrl

IS_1X: Final = skrl.__version__.startswith("1.")
_INPUT: Final = "STATES" if IS_1X else "OBSERVATIONS"
_HIDDEN: Final = [64, 64]
_REPLAY: Final = 50_000


class UnfitError(ValueError):
    """An algorithm cannot be trained on a task; the message says which can."""


def runner_config(algorithm: str, env: Any) -> dict[str, Any]:
    """Returns a Runner's configuration, without seed, trainer and directories.

    Args:
        algorithm: A key of `ALGORITHMS`.
        env: The environment, wrapped for skrl.

    Raises:
        UnfitError: The algorithm is for other tasks.
    """
    make, wanted = ALGORITHMS[algorithm]
    discrete = isinstance(env.action_space, gym.spaces.Discrete)
    if wanted is not None and wanted is not type(env.action_space):
        fit = ", ".join(name for name, (_, space) in ALGORITHMS.items() if space in (None, type(env.action_space)))
        raise UnfitError(
            f"{algorithm} is for {wanted.__name__} actions, and the task's are {env.action_space}: try one of {fit}"
        )
    return make(discrete)


def _on_policy(name: str, **options: Any) -> Callable[[bool], dict[str, Any]]:
    def make(discrete: bool) -> dict[str, Any]:
        scaler = "RunningStandardScaler"
        return {
            "models": {
                "separate": True,
                "policy": _categorical() if discrete else _gaussian(),
                "value": _deterministic("ONE"),
            },
            "memory": {"class": "RandomMemory", "memory_size": -1},
            "agent": {
                **{"class": name, "rollouts": 64, "mini_batches": 4, "discount_factor": 0.98, "grad_norm_clip": 0.5},
                **{"learning_rate": 1e-3, "entropy_loss_scale": 0.001},
                # Its scheduler is what sees the divergence between the policies.
                **{"learning_rate_scheduler": "KLAdaptiveLR", "learning_rate_scheduler_kwargs": {"kl_threshold": 0.01}},
                **{_preprocessor(): scaler, f"{_preprocessor()}_kwargs": None},
                **{"value_preprocessor": scaler, "value_preprocessor_kwargs": None},
                **options,
            },
        }

    return make


def _off_policy(name: str, *, stochastic: bool, twins: bool) -> Callable[[bool], dict[str, Any]]:
    def make(discrete: bool) -> dict[str, Any]:
        policy = _gaussian() if stochastic else _deterministic("tanh(ACTIONS)")
        critic = _deterministic("ONE", f"concatenate([{_INPUT}, ACTIONS])")
        critics = ("critic_1", "critic_2") if twins else ("critic",)
        models = {"policy": policy, **{role: critic for own in critics for role in (own, f"target_{own}")}}
        if not stochastic:
            models["target_policy"] = policy
        agent: dict[str, Any] = {
            **{"class": name, "batch_size": 64, "discount_factor": 0.98, "random_timesteps": 100},
            **{"learning_starts": 100, "grad_norm_clip": 1.0},
        }
        if not stochastic:
            agent |= _noise()
        if twins and not stochastic:
            agent |= {"smooth_regularization_noise": "GaussianNoise", "smooth_regularization_noise_kwargs": _gauss()}
        return {
            "models": {"separate": True, **{role: dict(model) for role, model in models.items()}},
            "memory": {"class": "RandomMemory", "memory_size": _REPLAY},
            "agent": agent,
        }

    return make


def _q_learning(name: str) -> Callable[[bool], dict[str, Any]]:
    def make(discrete: bool) -> dict[str, Any]:
        exploration: dict[str, Any] = (
            {"exploration": {"initial_epsilon": 1.0, "final_epsilon": 0.05, "timesteps": 2000}}
            if IS_1X
            else {"exploration_scheduler": "max(0.05, 1.0 - timestep / 2000)"}
        )
        return {
            "models": {
                "separate": True,
                "q_network": _deterministic("ACTIONS"),
                "target_q_network": _deterministic("ACTIONS"),
            },
            "memory": {"class": "RandomMemory", "memory_size": _REPLAY},
            "agent": {
                **{"class": name, "batch_size": 64, "discount_factor": 0.98, "learning_rate": 1e-3},
                **{"random_timesteps": 0, "learning_starts": 100, "update_interval": 1, "target_update_interval": 50},
                **exploration,
            },
        }

    return make


def _noise() -> dict[str, Any]:
    if IS_1X:
        scale = {"initial_scale": 1.0, "final_scale": 1.0, "timesteps": None}
        return {"exploration": {"noise": "GaussianNoise", "noise_kwargs": _gauss(), **scale}}
    return {"exploration_noise": "GaussianNoise", "exploration_noise_kwargs": _gauss()}


def _gauss() -> dict[str, Any]:
    return {"mean": 0.0, "std": 0.1}


def _preprocessor() -> str:
    return "state_preprocessor" if IS_1X else "observation_preprocessor"


def _network(source: str) -> list[dict[str, Any]]:
    return [{"name": "net", "input": source, "layers": _HIDDEN, "activations": "tanh"}]


def _categorical() -> dict[str, Any]:
    return {"class": "CategoricalMixin", "network": _network(_INPUT), "output": "ACTIONS"}


def _gaussian() -> dict[str, Any]:
    return {
        **{"class": "GaussianMixin", "clip_actions": True, "clip_log_std": True},
        **{"min_log_std": -5.0, "max_log_std": 2.0, "initial_log_std": 0.0},
        **{"network": _network(_INPUT), "output": "tanh(ACTIONS)"},
    }


def _deterministic(output: str, source: str = _INPUT) -> dict[str, Any]:
    return {"class": "DeterministicMixin", "clip_actions": False, "network": _network(source), "output": output}


ALGORITHMS: Final[Mapping[str, tuple[Callable[[bool], dict[str, Any]], type[gym.Space[Any]] | None]]] = {
    "PPO": (_on_policy("PPO", learning_epochs=8, ratio_clip=0.2, value_clip=0.2), None),
    "A2C": (_on_policy("A2C"), None),
    "SAC": (_off_policy("SAC", stochastic=True, twins=True), gym.spaces.Box),
    "TD3": (_off_policy("TD3", stochastic=False, twins=True), gym.spaces.Box),
    "DDPG": (_off_policy("DDPG", stochastic=False, twins=False), gym.spaces.Box),
    "DQN": (_q_learning("DQN"), gym.spaces.Discrete),
    "DDQN": (_q_learning("DDQN"), gym.spaces.Discrete),
}
"""What makes an algorithm's configuration, told whether actions are discrete, and which actions it needs."""
