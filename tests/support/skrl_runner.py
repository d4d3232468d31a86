"""A small real training by skrl's Runner, the same for skrl 1.4.3 and 2.x."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import gymnasium
import torch
from skrl.envs.wrappers.torch import wrap_env
from skrl.utils.runner.torch import Runner

from tests.support.skrl_training import IS_1X, Training, TrueReturns


class RunnerTraining(Training):
    """PPO as the Runner makes it of a configuration.

    Args:
        directory: Where skrl writes.
        timesteps: How long it trains.
        num_envs: Number of environments.
        write_interval: As skrl's.
    """

    seed = 11

    def __init__(
        self, directory: Path, *, timesteps: int = 90, num_envs: int = 2, write_interval: int | str = 20
    ) -> None:
        torch.set_num_threads(1)
        self.directory = directory
        self.finished: list[tuple[float, int, int]] = []

        def one(index: int) -> gymnasium.Env:
            return TrueReturns(gymnasium.make("CartPole-v1", max_episode_steps=40), index, self.finished)

        self.env = wrap_env(gymnasium.vector.SyncVectorEnv([functools.partial(one, it) for it in range(num_envs)]))
        self.runner = Runner(self.env, self._configuration(timesteps, write_interval))
        self.agent = self.runner.agent

    def _configuration(self, timesteps: int, write_interval: int | str) -> dict[str, Any]:
        seen = "STATES" if IS_1X else "OBSERVATIONS"
        network = [{"name": "net", "input": seen, "layers": [16], "activations": "tanh"}]
        return {
            "seed": self.seed,
            "models": {
                "separate": True,
                "policy": {"class": "CategoricalMixin", "network": network, "output": "ACTIONS"},
                "value": {"class": "DeterministicMixin", "network": network, "output": "ONE"},
            },
            "memory": {"class": "RandomMemory", "memory_size": -1},
            "agent": {
                "class": "PPO",
                "rollouts": 16,
                "learning_epochs": 2,
                "experiment": {
                    "directory": str(self.directory),
                    "experiment_name": "run",
                    "write_interval": write_interval,
                    "checkpoint_interval": 0,
                },
            },
            "trainer": {
                "class": "SequentialTrainer",
                "timesteps": timesteps,
                "headless": True,
                "disable_progressbar": True,
                "close_environment_at_exit": False,
            },
        }
