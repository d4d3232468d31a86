"""Each of skrl's torch agents with a small training of its own, the same for skrl 1.4.3 and 2.x."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import torch
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, GaussianMixin, Model, TabularMixin
from skrl.resources.noises.torch import GaussianNoise
from skrl.resources.schedulers.torch import KLAdaptiveLR
from skrl.utils import set_seed

from tests.support.skrl_training import IS_1X, Training, TrueReturns

ROLLOUTS = 16
SINGLE_AGENTS = (
    *("A2C", "AMP", "CEM", "DDPG", "DDQN", "DQN", "PPO", "Q_LEARNING", "RPO", "SAC", "SARSA", "TD3", "TRPO"),
    *("A2C_RNN", "DDPG_RNN", "PPO_RNN", "RPO_RNN", "SAC_RNN", "TD3_RNN", "TRPO_RNN"),
)

_INPUT = "states" if IS_1X else "observations"
_HIDDEN = 8
_SEQUENCE = 2
_ADAPTS_TO_KL = ("A2C", "AMP", "PPO", "RPO")
_OFF_POLICY = ("DDPG", "DDQN", "DQN", "SAC", "TD3")
_TABULAR = ("Q_LEARNING", "SARSA")
_ON_CARTPOLE = ("A2C", "CEM", "DDQN", "DQN", "PPO")


class AlgorithmTraining(Training):
    """An agent of any of `SINGLE_AGENTS`, with its environments.

    Losses have parts in the total, gradients are clipped and rates adapt where the algorithm knows of such things, so
    that all that it can track is tracked.

    Args:
        algorithm: The class's name.
        directory: Where skrl writes.
        num_envs: Number of environments.
        write_interval: As skrl's.
        experiment: The rest of skrl's own setting of that name.
    """

    def __init__(
        self,
        algorithm: str,
        directory: Path,
        *,
        num_envs: int = 3,
        write_interval: int | str = 20,
        experiment: Mapping[str, Any] | None = None,
    ) -> None:
        set_seed(7)
        torch.set_num_threads(1)
        self.directory = directory
        self.finished: list[tuple[float, int, int]] = []
        kind = algorithm.removesuffix("_RNN")
        self.env = _environments(kind, num_envs, self.finished)
        cfg: dict[str, Any] = _options(kind)
        cfg["experiment"] = {
            "directory": str(directory),
            "experiment_name": "run",
            "write_interval": write_interval,
            "checkpoint_interval": 0,
            **(experiment or {}),
        }
        on_policy = kind not in _OFF_POLICY
        memory = RandomMemory(memory_size=ROLLOUTS if on_policy else 200, num_envs=self.env.num_envs, device="cpu")
        spaces = {"observation_space": self.env.observation_space, "action_space": self.env.action_space}
        extra = _motions(spaces["observation_space"]) if kind == "AMP" else {}
        models = _models(kind, spaces, num_envs, recurrent=algorithm != kind)
        self.agent = _agent_class(algorithm)(
            models=models, memory=None if kind in _TABULAR else memory, cfg=cfg, device="cpu", **spaces, **extra
        )


def _agent_class(algorithm: str) -> Any:
    package = algorithm.removesuffix("_RNN").lower()
    if IS_1X and package == "ddqn":
        package = "dqn"
    return getattr(importlib.import_module(f"skrl.agents.torch.{package}"), algorithm)


def _options(kind: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if kind in _ADAPTS_TO_KL:
        options.update(entropy_loss_scale=0.01, learning_rate_scheduler=KLAdaptiveLR)
    if kind in (*_ADAPTS_TO_KL, "TRPO", "CEM"):
        options["rollouts"] = ROLLOUTS
    if kind in ("PPO", "RPO", "AMP", "TRPO"):
        options.update(learning_epochs=2, mini_batches=2)
    if kind in _OFF_POLICY:
        options.update(learning_starts=10, batch_size=16)
    if kind == "AMP":
        options.update(amp_batch_size=16, grad_norm_clip=0.5)
    if kind in ("DDPG", "TD3"):
        if IS_1X:
            noise = GaussianNoise(mean=0, std=0.1, device="cpu")
            options["exploration"] = {"noise": noise, "initial_scale": 1.0, "final_scale": 0.1, "timesteps": None}
        else:
            options.update(
                exploration_noise=GaussianNoise,
                exploration_noise_kwargs={"mean": 0, "std": 0.1, "device": "cpu"},
                exploration_scheduler=lambda timestep, timesteps: 1 - timestep / timesteps,
            )
    if kind in ("DQN", "DDQN") and not IS_1X:
        options["exploration_scheduler"] = lambda timestep, timesteps: 1 - timestep / timesteps
    return options


def _environments(kind: str, num_envs: int, finished: list[tuple[float, int, int]]) -> Any:
    taxi = "Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3"
    env_id = taxi if kind in _TABULAR else "CartPole-v1" if kind in _ON_CARTPOLE else "Pendulum-v1"

    def one(index: int) -> gymnasium.Env:
        steps = 11 if kind == "CEM" else 40  # it needs whole episodes in a rollout
        return TrueReturns(gymnasium.make(env_id, max_episode_steps=steps), index, finished)

    vector = gymnasium.vector.SyncVectorEnv([functools.partial(one, index) for index in range(num_envs)])
    env = wrap_env(vector)
    if kind == "AMP":
        step = env.step

        def stepping(actions: torch.Tensor) -> Any:
            observations, rewards, terminated, truncated, infos = step(actions)
            infos = {**infos, "amp_obs": observations.clone(), "terminate": terminated}
            return observations, rewards, terminated, truncated, infos

        env.step = stepping
    return env


def _motions(space: gymnasium.Space) -> dict[str, Any]:
    """Returns what AMP imitates: there is nothing to it but its shape."""
    return {
        "amp_observation_space": space,
        "motion_dataset": RandomMemory(memory_size=32, device="cpu"),
        "reply_buffer": RandomMemory(memory_size=64, device="cpu"),
        "collect_reference_motions": lambda number: torch.rand(number, *space.shape),
    }


def _models(kind: str, spaces: Mapping[str, Any], num_envs: int, *, recurrent: bool) -> dict[str, Model]:
    if kind in _TABULAR:
        return {"policy": _Table(spaces, num_envs)}
    critics = ("critic_1", "critic_2") if kind in ("SAC", "TD3") else ("critic",)
    policy: Callable[..., Model]
    if kind in ("DQN", "DDQN"):
        return {name: _Deterministic(spaces, outputs=2) for name in ("q_network", "target_q_network")}
    if kind in ("DDPG", "TD3"):
        policy = functools.partial(_Deterministic, outputs=1, num_envs=num_envs, recurrent=recurrent)
        names = ("policy", "target_policy", *critics, *(f"target_{critic}" for critic in critics))
    else:
        discrete = isinstance(spaces["action_space"], gymnasium.spaces.Discrete)
        policy = functools.partial(_Discrete if discrete else _Gaussian, num_envs=num_envs, recurrent=recurrent)
        names = ("policy",)
        if kind == "SAC":
            names = (*names, *critics, *(f"target_{critic}" for critic in critics))
        elif kind != "CEM":
            names = (*names, "value", *(("discriminator",) if kind == "AMP" else ()))
    models: dict[str, Model] = {}
    for name in names:
        if name.endswith("policy"):
            models[name] = policy(spaces)
        elif "critic" in name:
            models[name] = _Deterministic(spaces, outputs=1, takes_actions=True)
        else:
            # A value's memory runs beside the policy's, but a discriminator has none.
            with_memory = recurrent and name == "value"
            models[name] = _Deterministic(spaces, outputs=1, num_envs=num_envs, recurrent=with_memory)
    return models


class _Net(Model):
    """A small network, with a recurrent layer before it or without."""

    def __init__(
        self,
        spaces: Mapping[str, Any],
        *,
        outputs: int,
        num_envs: int = 1,
        recurrent: bool = False,
        takes_actions: bool = False,
    ) -> None:
        Model.__init__(self, **spaces, device="cpu")
        self.num_envs = num_envs
        self.recurrent = recurrent
        self.takes_actions = takes_actions
        inputs = self.num_observations + (self.num_actions if takes_actions else 0)
        if recurrent:
            self.gru = torch.nn.GRU(inputs, _HIDDEN, batch_first=True)
            inputs = _HIDDEN
        self.net = torch.nn.Sequential(torch.nn.Linear(inputs, 16), torch.nn.Tanh(), torch.nn.Linear(16, outputs))

    def get_specification(self) -> dict[str, Any]:
        if not self.recurrent:
            return {}
        return {"rnn": {"sequence_length": _SEQUENCE, "sizes": [(1, self.num_envs, _HIDDEN)]}}

    def forward_through(self, inputs: Mapping[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
        features = inputs[_INPUT]
        if self.takes_actions:
            features = torch.cat([features, inputs["taken_actions"]], dim=-1)
        if not self.recurrent:
            return self.net(features), {}
        length = _SEQUENCE if self.training else 1
        hidden = inputs["rnn"][0]
        hidden = hidden.view(1, -1, length, _HIDDEN)[:, :, 0].contiguous()
        features, hidden = self.gru(features.view(-1, length, features.shape[-1]), hidden)
        return self.net(features.flatten(0, 1)), {"rnn": [hidden]}


class _Gaussian(GaussianMixin, _Net):
    def __init__(self, spaces: Mapping[str, Any], **options: Any) -> None:
        _Net.__init__(self, spaces, outputs=spaces["action_space"].shape[0], **options)
        GaussianMixin.__init__(self)
        self.log_std_parameter = torch.nn.Parameter(torch.zeros(self.num_actions))

    def compute(self, inputs: Mapping[str, Any], role: str = "") -> Any:
        mean, outputs = self.forward_through(inputs)
        if "alpha" in inputs:  # RPO's
            mean = mean + torch.zeros_like(mean).uniform_(-inputs["alpha"], inputs["alpha"])
        if IS_1X:
            return mean, self.log_std_parameter, outputs
        return mean, {"log_std": self.log_std_parameter, **outputs}


class _Discrete(CategoricalMixin, _Net):
    def __init__(self, spaces: Mapping[str, Any], **options: Any) -> None:
        _Net.__init__(self, spaces, outputs=int(spaces["action_space"].n), **options)
        CategoricalMixin.__init__(self)

    def compute(self, inputs: Mapping[str, Any], role: str = "") -> Any:
        return self.forward_through(inputs)


class _Deterministic(DeterministicMixin, _Net):
    def __init__(self, spaces: Mapping[str, Any], **options: Any) -> None:
        _Net.__init__(self, spaces, **options)
        DeterministicMixin.__init__(self)

    def compute(self, inputs: Mapping[str, Any], role: str = "") -> Any:
        return self.forward_through(inputs)


class _Table(TabularMixin, Model):
    """Mostly the best action of a table, sometimes another."""

    def __init__(self, spaces: Mapping[str, Any], num_envs: int) -> None:
        Model.__init__(self, **spaces, device="cpu")
        TabularMixin.__init__(self, **({"num_envs": num_envs} if IS_1X else {}))
        states, actions = int(spaces["observation_space"].n), int(spaces["action_space"].n)
        if IS_1X:
            self.q_table = torch.zeros(num_envs, states, actions)
        else:
            self.q_table = torch.nn.Parameter(torch.zeros(states, actions), requires_grad=False)

    def compute(self, inputs: Mapping[str, Any], role: str = "") -> Any:
        states = inputs[_INPUT].long().view(-1)
        rows = self.q_table[torch.arange(len(states)), states] if IS_1X else self.q_table[states]
        actions = rows.argmax(dim=-1, keepdim=True)
        other = torch.rand(len(states), 1) < 0.2
        return torch.where(other, torch.randint_like(actions, rows.shape[-1]), actions), {}
