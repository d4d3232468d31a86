"""Trains a linear policy on CartPole-v1 by the cross-entropy method: a loop of one's own, with NumPy alone.

Logged to a local MLflow store and an offline W&B run. Run it as ``python -m rl_logging.examples.custom_loop``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import gymnasium as gym
import numpy as np

from rl_logging import ExperimentLogger

POPULATION, ELITE = 24, 6


def train(folder: Path, timesteps: int) -> ExperimentLogger:
    """Trains for `timesteps` environment steps or somewhat more; returns the logger, finished."""
    config = {
        "seed": 1,
        "cem": {"population": POPULATION, "elite": ELITE, "initial_std": 1.0, "extra_std": 0.05},
        "rl_logging": {"name": "cem", "project": "cartpole", "tags": ["example"], "dir": str(folder / "rl_runs")},
        "mlflow": {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"},
        "wandb": {"mode": "offline", "dir": str(folder)},
    }
    rng = np.random.default_rng(1)
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=1)
    mean, std, step, began = np.zeros(4), np.ones(4), 0, time.monotonic()
    with ExperimentLogger(config, env) as logger:
        while step < timesteps:
            candidates = rng.normal(mean, std, size=(POPULATION, 4))
            returns = np.array([play(env, weights)[0] for weights in candidates])
            elite = candidates[np.argsort(returns)[-ELITE:]]
            mean, std = elite.mean(axis=0), elite.std(axis=0) + 0.05
            step += int(returns.sum())
            logger.log_metrics(
                {
                    "episode_reward": returns,  # an array: its mean, std, min and max
                    "episode_reward_mean": returns.mean(),
                    "policy": {"std": std.mean(), "weight": {str(index): value for index, value in enumerate(mean)}},
                    "timesteps": step,
                    "fps": step / (time.monotonic() - began),
                },
                step=step,
            )

        reward, frames = play(env, mean, record=True)
        logger.log_config({"evaluation": {"episodes": 1}})
        logger.log_metrics({"eval": {"reward": reward}}, step=step)
        logger.log_image("last_frame", frames[-1], step=step, caption=f"after {len(frames)} steps")
        logger.log_video("episode", frames, step=step, fps=50)
        np.save(folder / "policy.npy", mean)
        logger.save_model(folder / "policy.npy", "policy", metadata={"reward": reward}, step=step, aliases=("final",))
    return logger


def play(env: gym.Env, weights: np.ndarray, record: bool = False) -> tuple[float, list[np.ndarray]]:
    """Plays one episode; returns its return and, where asked for, a frame of shape (H, W, 3) for each step."""
    (observation, _), total, frames, over = env.reset(), 0.0, [], False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(int(observation @ weights > 0))
        total += float(reward)
        over = terminated or truncated
        if record:
            frames.append(env.render())
    return total, frames


def main() -> None:
    """Runs the example with the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timesteps", type=int, default=50_000, help="environment steps to train for")
    parser.add_argument("--dir", type=Path, default=Path("cartpole"), help="folder for everything that is written")
    arguments = parser.parse_args()
    train(arguments.dir, arguments.timesteps)


if __name__ == "__main__":
    main()
