"""Environments of a task, wrapped for skrl: Gymnasium's, and Isaac Lab's where that is installed."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import gymnasium as gym
import numpy as np
from skrl.envs.wrappers.torch import wrap_env

from rl_logging.examples.skrl_training.agents import IS_1X

ISAAC: Final = "Isaac-"
_ENTRY_POINTS: Final = {
    algorithm: f"skrl_{algorithm.lower()}_cfg_entry_point" for algorithm in ("AMP", "IPPO", "MAPPO")
}

Show = Callable[[list[np.ndarray], int], None]
"""Takes a video's frames, of shape (H, W, 3), and how many steps its environment had taken before it."""


class TaskError(ValueError):
    """The task cannot be trained here; the message says why, and what to do."""


class VideoPlan(NamedTuple):
    """Which steps of the first environment are filmed: `length` of them, every `interval`."""

    length: int
    interval: int


class Filmed(gym.Wrapper):  # type: ignore[misc]
    """Films an environment by its own ``render``.

    Args:
        env: The environment, with the render mode ``rgb_array``.
        plan: Which steps.
        show: Is given each video.
    """

    def __init__(self, env: Any, plan: VideoPlan, show: Show) -> None:
        super().__init__(env)
        self._plan = plan
        self._show = show
        self._step = 0
        self._frames: list[np.ndarray] = []

    def step(self, action: Any) -> Any:
        """Takes a step, and a frame before it where the plan says so."""
        if self._step % self._plan.interval < self._plan.length:
            self._frames.append(np.asarray(self.env.render()))
        self._step += 1
        if len(self._frames) == self._plan.length:
            self._cut()
        return self.env.step(action)

    def close(self) -> None:
        """Shows what is filmed, and closes the environment."""
        self._cut()
        self.env.close()

    def _cut(self) -> None:
        if self._frames:
            frames, self._frames = self._frames, []
            self._show(frames, self._step - len(frames))


class PlainActions(gym.ActionWrapper):  # type: ignore[misc]
    """Takes the arrays of one element that skrl 1 hands to environments with discrete actions."""

    def action(self, action: Any) -> Any:
        """Returns the action as the integer it is."""
        return int(np.asarray(action).item())


def make_gymnasium(task: str, num_envs: int, *, seed: int, video: VideoPlan | None, show: Show) -> Any:
    """Returns `num_envs` environments of a Gymnasium task, continuous actions scaled to [-1, 1].

    Raises:
        TaskError: There is no such task, or its package is missing.
    """

    def one(index: int) -> Any:
        filmed = video is not None and index == 0
        env = gym.make(task, render_mode="rgb_array" if filmed else None)
        if isinstance(env.action_space, gym.spaces.Box):
            env = gym.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))
        elif IS_1X:
            env = PlainActions(env)
        return Filmed(env, video, show) if filmed and video is not None else env

    try:
        envs = gym.vector.SyncVectorEnv([functools.partial(one, index) for index in range(num_envs)])
    except gym.error.Error as error:
        raise TaskError(f"--task: {error}") from error
    envs.action_space.seed(seed)
    return wrap_env(envs, verbose=False)


def require_isaaclab(task: str) -> None:
    """Looks for Isaac Lab.

    Raises:
        TaskError: It is not installed.
    """
    if importlib.util.find_spec("isaaclab") is None:
        raise TaskError(
            f"--task: '{task}' is a task of Isaac Lab, which is not installed in this Python: install it "
            "(https://isaac-sim.github.io/IsaacLab), then run 'isaaclab.sh -p -m rl_logging.examples.skrl_training' "
            "with the same options; Gymnasium's tasks, such as CartPole-v1, train without it"
        )


class IsaacTask(NamedTuple):
    """An Isaac Lab task: its environments wrapped for skrl, its Runner's configuration, what closes the simulator."""

    env: Any
    config: dict[str, Any]
    close: Callable[[], None]


def make_isaac(
    task: str,
    num_envs: int | None,
    *,
    seed: int,
    algorithm: str,
    agent: str | None,
    headless: bool,
    video: VideoPlan | None,
    video_dir: Path,
) -> IsaacTask:
    """Starts the simulator and returns a task of it; videos are written to `video_dir` by Gymnasium's RecordVideo.

    Raises:
        TaskError: Isaac Lab is not installed, or has no such task.
    """
    require_isaaclab(task)
    # The simulator must run before anything else of Isaac Lab is imported.
    launcher = importlib.import_module("isaaclab.app").AppLauncher(headless=headless, enable_cameras=video is not None)
    importlib.import_module("isaaclab_tasks")
    if task not in gym.registry:
        raise TaskError(f"--task: Isaac Lab has no task '{task}'")
    load = importlib.import_module("isaaclab_tasks.utils").load_cfg_from_registry
    entry_point = agent or _ENTRY_POINTS.get(algorithm, "skrl_cfg_entry_point")
    env_cfg, config = load(task, "env_cfg_entry_point"), load(task, entry_point)
    if num_envs is not None:
        env_cfg.scene.num_envs = num_envs
    env_cfg.seed = seed
    env = gym.make(task, cfg=env_cfg, render_mode="rgb_array" if video is not None else None)
    if video is not None:
        interval = video.interval
        env = gym.wrappers.RecordVideo(
            env,
            str(video_dir),
            step_trigger=lambda step: step % interval == 0,
            video_length=video.length,
            disable_logger=True,
        )
    wrapped = importlib.import_module("isaaclab_rl.skrl").SkrlVecEnvWrapper(env, ml_framework="torch")
    return IsaacTask(wrapped, dict(config), launcher.app.close)
