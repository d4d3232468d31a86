"""Trainings of stable-baselines3 with callbacks, and what a real journal has of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from rl_logging import ExperimentLogger
from rl_logging.journal import JournalReader
from rl_logging.records import Metrics, Model, Record, Video, decode


def open_run(folder: Path, config: object = None, env: object = None, **keywords: Any) -> ExperimentLogger:
    """Opens a run that nobody delivers: what was logged is read from its journal."""
    options = {"dir": folder / "runs", "delivery": "offline", "sinks": [], "quiet": True, **keywords}
    return ExperimentLogger(config, env, **options)


def records(logger: ExperimentLogger) -> list[Record]:
    """Returns what the journal has."""
    return [decode(envelope) for envelope in JournalReader(logger.run_dir / "journal").read(100_000, final=False)]


def points(logger: ExperimentLogger, name: str) -> list[tuple[int | None, float]]:
    rows = [record for record in records(logger) if isinstance(record, Metrics)]
    return [(row.step, row.values[name]) for row in rows if name in row.values]


def saved_models(logger: ExperimentLogger, name: str) -> list[Model]:
    return [record for record in records(logger) if isinstance(record, Model) and record.name == name]


def videos(logger: ExperimentLogger) -> list[Video]:
    return [record for record in records(logger) if isinstance(record, Video)]


def small() -> dict[str, Any]:
    return {"policy_kwargs": {"net_arch": [16]}, "seed": 0, "device": "cpu"}


def ppo(env: VecEnv | gym.Env[Any, Any] | None = None, **options: Any) -> PPO:
    """Returns PPO with 2 environments and rollouts of 64 environment steps."""
    env = cartpoles() if env is None else env
    return PPO("MlpPolicy", env, **{**small(), "n_steps": 32, "batch_size": 32, "n_epochs": 2, **options})


def dqn(env: Any = None, **options: Any) -> DQN:
    env = cartpoles(1) if env is None else env
    return DQN("MlpPolicy", env, **{**small(), "learning_starts": 50, "batch_size": 16, "buffer_size": 500, **options})


def cartpoles(n_envs: int = 2) -> VecEnv:
    return make_vec_env("CartPole-v1", n_envs=n_envs, seed=0)


class Scripted(gym.Env[Any, Any]):
    """Has the spaces of `Corridor`, and episodes of one step with these returns, each above 0 being a success.

    Args:
        returns: Of the episodes; after the last one, `step` raises.
    """

    def __init__(self, *returns: float) -> None:
        self.observation_space = gym.spaces.Box(-100, 100, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self._returns = list(returns)

    def reset(self, **options: Any) -> Any:
        super().reset(**options)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        if not self._returns:
            raise RuntimeError("the simulator is gone")
        reward = self._returns.pop(0)
        return np.zeros(2, np.float32), reward, True, False, {"is_success": reward > 0}


class Corridor(gym.Env[Any, Any]):
    """Five cells to the right; an episode is a success where it ends at the last one, and 8 steps long otherwise.

    Args:
        shift: Added to each observation.

    Attributes:
        lengths: Of the episodes that have ended.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 7}  # noqa: RUF012 - as Gymnasium wants it

    def __init__(self, shift: float = 0.0, render_mode: str | None = None) -> None:
        self.observation_space = gym.spaces.Box(-100, 100, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.render_mode = render_mode
        self.shift = shift
        self.lengths: list[int] = []
        self._cell = self._time = 0

    def reset(self, **options: Any) -> Any:
        super().reset(**options)
        self._cell = self._time = 0
        return self._look(), {}

    def step(self, action: Any) -> Any:
        self._cell = max(0, self._cell + (1 if int(action) else -1))
        self._time += 1
        at_end = self._cell == 5
        over = self._time == 8 and not at_end
        if at_end or over:
            self.lengths.append(self._time)
        return self._look(), float(at_end), at_end, over, {"is_success": at_end}

    def render(self) -> Any:
        frame = np.zeros((16, 32, 3), np.uint8)
        frame[:, : 2 + 2 * self._time] = 200  # so that the frames of an episode tell its time
        return frame

    def action_masks(self) -> Any:
        return np.array([False, True])

    def _look(self) -> Any:
        return np.array([self._cell + self.shift, self._time], np.float32)
