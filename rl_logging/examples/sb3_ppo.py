"""Trains PPO of stable-baselines3 on CartPole-v1, logged to a local MLflow store and an offline W&B run.

Run it as ``python -m rl_logging.examples.sb3_ppo``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from rl_logging import ExperimentLogger


def configure(folder: Path) -> dict[str, Any]:
    """Returns the whole configuration: the training's, the logger's, and one section for each store."""
    return {
        "seed": 1,
        "ppo": {"n_steps": 128, "batch_size": 256, "learning_rate": 1e-3, "gamma": 0.98, "ent_coef": 0.001},
        "rl_logging": {"name": "sb3-ppo", "project": "cartpole", "tags": ["example"], "dir": str(folder / "rl_runs")},
        "mlflow": {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"},
        "wandb": {"mode": "offline", "dir": str(folder)},
    }


def train(config: dict[str, Any], timesteps: int) -> ExperimentLogger:
    """Trains for `timesteps` environment steps; returns the logger, finished."""
    env = make_vec_env("CartPole-v1", n_envs=8, seed=config["seed"])
    with ExperimentLogger(config, env) as logger:
        model = PPO("MlpPolicy", env, seed=config["seed"], device="cpu", **config["ppo"])
        model.learn(timesteps, callback=logger.get_callbacks())

        reward, frames = play(model)
        step = model.num_timesteps
        logger.log_config({"evaluation": {"episodes": 1, "deterministic": True}})
        logger.log_metrics({"eval": {"reward": reward, "length": len(frames)}}, step=step)
        logger.log_image("last_frame", frames[-1], step=step, caption=f"after {len(frames)} steps")
        logger.log_video("episode", frames, step=step, fps=50)
        logger.save_model(model, "ppo", metadata={"reward": reward}, step=step, aliases=("final",))
    return logger


def play(model: PPO) -> tuple[float, list[np.ndarray]]:
    """Plays one episode; returns its return and a frame of shape (H, W, 3) for each step."""
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    rewards, frames, over = [], [], False
    while not over:
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        rewards.append(float(reward))
        frames.append(env.render())
        over = terminated or truncated
    env.close()
    return sum(rewards), frames


def main() -> None:
    """Runs the example with the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timesteps", type=int, default=50_000, help="environment steps to train for")
    parser.add_argument("--dir", type=Path, default=Path("cartpole"), help="folder for everything that is written")
    arguments = parser.parse_args()
    train(configure(arguments.dir), arguments.timesteps)


if __name__ == "__main__":
    main()
