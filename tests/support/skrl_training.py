"""Small real skrl trainings, the same for skrl 1.4.3 and 2.x, and what skrl itself wrote about them."""

from __future__ import annotations

import functools
import importlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import skrl
import torch
from skrl.agents.torch.dqn import DQN
from skrl.agents.torch.ppo import PPO
from skrl.agents.torch.sac import SAC
from skrl.agents.torch.td3 import TD3
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, GaussianMixin, Model
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

IS_1X = skrl.__version__.startswith("1.")
_INPUT = "states" if IS_1X else "observations"


class TrueReturns(gymnasium.Wrapper):
    """Keeps what each of its episodes truly returned, and how many steps it took."""

    def __init__(self, env: gymnasium.Env, index: int, finished: list[tuple[float, int, int]]) -> None:
        super().__init__(env)
        self._index = index
        self._finished = finished
        self._rewards: list[float] = []
        self._seed: int | None = 7

    def reset(self, *, seed: int | None = None, **kwargs: Any) -> Any:
        self._rewards = []
        seed, self._seed = self._seed, None  # skrl 1.4.3 seeds no environment
        return super().reset(seed=seed, **kwargs)

    def step(self, action: Any) -> Any:
        if isinstance(self.action_space, gymnasium.spaces.Discrete):
            action = int(np.asarray(action).item())  # skrl 1.4.3 hands an array of one to each environment
        result = super().step(action)
        self._rewards.append(float(result[1]))
        if result[2] or result[3]:
            self._finished.append((sum(self._rewards), len(self._rewards), self._index))
        return result


class Training:
    """An agent with its environment.

    Args:
        algorithm: PPO, SAC, DQN or TD3.
        directory: Where skrl writes.
        num_envs: Number of environments; 0 for one that is no vector environment.
        write_interval: As skrl's.
        checkpoint_interval: As skrl's.
        options: More of the agent's configuration.
        max_episode_steps: Where episodes are cut off.
    """

    def __init__(
        self,
        algorithm: str,
        directory: Path,
        *,
        num_envs: int = 4,
        write_interval: int | str = 20,
        checkpoint_interval: int = 0,
        options: Mapping[str, Any] | None = None,
        max_episode_steps: int = 40,
    ) -> None:
        set_seed(7)
        torch.set_num_threads(1)
        self.directory = directory
        self.finished: list[tuple[float, int, int]] = []
        env_id = "Pendulum-v1" if algorithm in ("SAC", "TD3") else "CartPole-v1"

        def one(index: int) -> gymnasium.Env:
            return TrueReturns(gymnasium.make(env_id, max_episode_steps=max_episode_steps), index, self.finished)

        makers = [functools.partial(one, index) for index in range(num_envs)]
        self.env = wrap_env(gymnasium.vector.SyncVectorEnv(makers) if num_envs else one(0))
        experiment = {
            "directory": str(directory),
            "experiment_name": "run",
            "write_interval": write_interval,
            "checkpoint_interval": checkpoint_interval,
        }
        rollouts = 16
        memory = RandomMemory(
            memory_size=rollouts if algorithm == "PPO" else 200, num_envs=self.env.num_envs, device="cpu"
        )
        agent_class, defaults = _AGENTS[algorithm]
        cfg = {**defaults, **(options or {}), "experiment": experiment}
        if algorithm == "PPO":
            cfg["rollouts"] = rollouts
        spaces = {"observation_space": self.env.observation_space, "action_space": self.env.action_space}
        if IS_1X:
            cfg = {**_default_config(algorithm), **cfg}
        self.agent = agent_class(models=make_models(algorithm, spaces), memory=memory, cfg=cfg, device="cpu", **spaces)

    def trainer(self, timesteps: int) -> SequentialTrainer:
        cfg = {
            "timesteps": timesteps,
            "headless": True,
            "disable_progressbar": True,
            "close_environment_at_exit": False,
        }
        return SequentialTrainer(cfg=cfg, env=self.env, agents=self.agent)

    def whole_since(self, count: int) -> list[tuple[float, int, int]]:
        """Returns the episodes that both began and ended after the first `count` had ended."""
        began: set[int] = set()
        whole = []
        for episode in self.finished[count:]:
            if episode[2] in began:
                whole.append(episode)
            began.add(episode[2])
        return whole

    def scalars(self) -> dict[str, dict[int, float]]:
        """Returns what skrl wrote to TensorBoard: tag -> step -> value, in float32.

        Raises:
            AssertionError: A tag has two values at a step.
        """
        self.agent.writer.flush()
        return scalars_in(self.directory / "run")


def scalars_in(folder: Path) -> dict[str, dict[int, float]]:
    """Returns what skrl wrote below `folder`; see `Training.scalars`."""
    scalars: dict[str, dict[int, float]] = defaultdict(dict)
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                assert event.step not in scalars[value.tag], (value.tag, event.step)
                scalars[value.tag][event.step] = value.simple_value
    return dict(scalars)


class _Policy(GaussianMixin, Model):
    def __init__(self, spaces: Mapping[str, Any], size: int) -> None:
        Model.__init__(self, **spaces, device="cpu")
        _mixin(GaussianMixin, self)
        self.net = _net(self.num_observations, self.num_actions)
        self.log_std_parameter = torch.nn.Parameter(torch.zeros(self.num_actions))

    def compute(self, inputs: Mapping[str, torch.Tensor], role: str = "") -> Any:
        mean = 2 * torch.tanh(self.net(inputs[_INPUT]))
        if IS_1X:
            return mean, self.log_std_parameter, {}
        return mean, {"log_std": self.log_std_parameter}


class _DiscretePolicy(CategoricalMixin, Model):
    def __init__(self, spaces: Mapping[str, Any], size: int) -> None:
        Model.__init__(self, **spaces, device="cpu")
        _mixin(CategoricalMixin, self)
        self.net = _net(self.num_observations, self.num_actions)

    def compute(self, inputs: Mapping[str, torch.Tensor], role: str = "") -> Any:
        return self.net(inputs[_INPUT]), {}


class _Value(DeterministicMixin, Model):
    """A value, action values (`size` of them), a critic (`size` -1) or a deterministic policy."""

    def __init__(self, spaces: Mapping[str, Any], size: int) -> None:
        Model.__init__(self, **spaces, device="cpu")
        _mixin(DeterministicMixin, self)
        self.is_critic = size < 0
        self.net = _net(self.num_observations + (self.num_actions if self.is_critic else 0), abs(size))

    def compute(self, inputs: Mapping[str, torch.Tensor], role: str = "") -> Any:
        features = inputs[_INPUT]
        if self.is_critic:
            features = torch.cat([features, inputs["taken_actions"]], dim=-1)
        return self.net(features), {}


class _Noise:
    """A Gaussian exploration noise for both versions."""

    def __init__(self, **kwargs: Any) -> None:
        self.std = 0.1

    def sample(self, size: Any, **kwargs: Any) -> torch.Tensor:
        return torch.randn(tuple(size)) * self.std


_AGENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "PPO": (PPO, {"learning_epochs": 2, "mini_batches": 2, "entropy_loss_scale": 0.01, "learning_rate": 1e-3}),
    "SAC": (SAC, {"learning_starts": 10, "batch_size": 32}),
    "DQN": (DQN, {"learning_starts": 10, "batch_size": 32, "update_interval": 3}),
    "TD3": (TD3, {"learning_starts": 10, "batch_size": 32}),
}


def make_models(algorithm: str, spaces: Mapping[str, Any]) -> dict[str, Model]:
    """Returns the models that an agent needs, over these spaces."""
    makers: dict[str, dict[str, tuple[Callable[..., Model], int]]] = {
        "PPO": {"policy": (_DiscretePolicy, 0), "value": (_Value, 1)},
        "SAC": {"policy": (_Policy, 0), **dict.fromkeys(_critics(), (_Value, -1))},
        "TD3": {
            "policy": (_Value, 1),
            "target_policy": (_Value, 1),
            **dict.fromkeys(_critics(), (_Value, -1)),
        },
        "DQN": {"q_network": (_Value, 2), "target_q_network": (_Value, 2)},
    }
    return {name: make(spaces, size) for name, (make, size) in makers[algorithm].items()}


def _critics() -> tuple[str, ...]:
    return ("critic_1", "critic_2", "target_critic_1", "target_critic_2")


def _default_config(algorithm: str) -> dict[str, Any]:
    module = importlib.import_module(f"skrl.agents.torch.{algorithm.lower()}")
    return dict(getattr(module, f"{algorithm}_DEFAULT_CONFIG"))


def _mixin(mixin: Any, model: Model) -> None:
    mixin.__init__(model)


def _net(inputs: int, outputs: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(inputs, 16), torch.nn.Tanh(), torch.nn.Linear(16, outputs))


def as_float32(value: float) -> float:
    """Returns `value` as TensorBoard keeps it."""
    return float(np.float32(value))
