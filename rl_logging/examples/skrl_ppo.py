"""Trains PPO of skrl 2 on CartPole-v1, logged to a local MLflow store and an offline W&B run.

Run it as ``python -m rl_logging.examples.skrl_ppo``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from skrl.envs.wrappers.torch import wrap_env
from skrl.utils.runner.torch import Runner

from rl_logging import ExperimentLogger

NUM_ENVS = 8


def configure(folder: Path, timesteps: int) -> dict[str, Any]:
    """Returns the whole configuration: the Runner's, the logger's, and one section for each store."""
    network = [{"name": "net", "input": "OBSERVATIONS", "layers": [64, 64], "activations": "tanh"}]
    return {
        "seed": 1,
        "models": {
            "separate": True,
            "policy": {"class": "CategoricalMixin", "network": network, "output": "ACTIONS"},
            "value": {"class": "DeterministicMixin", "network": network, "output": "ONE"},
        },
        "memory": {"class": "RandomMemory", "memory_size": -1},
        "agent": {
            **{"class": "PPO", "rollouts": 128, "learning_epochs": 10, "mini_batches": 4},
            **{"learning_rate": 1e-3, "discount_factor": 0.98, "entropy_loss_scale": 0.001},
            "experiment": {"directory": str(folder / "skrl"), "checkpoint_interval": 0},
        },
        "trainer": {"class": "SequentialTrainer", "timesteps": timesteps // NUM_ENVS, "headless": True},
        "rl_logging": {"name": "skrl-ppo", "project": "cartpole", "tags": ["example"], "dir": str(folder / "rl_runs")},
        "mlflow": {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"},
        "wandb": {"mode": "offline", "dir": str(folder)},
    }


def train(config: dict[str, Any]) -> ExperimentLogger:
    """Trains as the configuration says; returns the logger, finished."""
    env = wrap_env(gym.make_vec("CartPole-v1", num_envs=NUM_ENVS, vectorization_mode="sync"), verbose=False)
    with ExperimentLogger(config, env) as logger:
        runner = Runner(env, config)
        logger.attach(runner)
        runner.run("train")

        reward, frames = play(runner.agent)
        step = logger.step
        logger.log_config({"evaluation": {"episodes": 1, "deterministic": True}})
        logger.log_metrics({"eval": {"reward": reward, "length": len(frames)}}, step=step)
        logger.log_image("last_frame", frames[-1], step=step, caption=f"after {len(frames)} steps")
        logger.log_video("episode", frames, step=step, fps=50)
        logger.save_model(runner.agent, "ppo", metadata={"reward": reward}, step=step, aliases=("final",))
    return logger


def play(agent: Any) -> tuple[float, list[np.ndarray]]:
    """Plays one episode; returns its return and a frame of shape (H, W, 3) for each step."""
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    rewards, frames, over = [], [], False
    while not over:
        batch = torch.as_tensor(observation)[None]
        with torch.no_grad():
            logits = agent.policy.compute({"observations": batch, "states": batch}, "policy")[0]
        observation, reward, terminated, truncated, _ = env.step(int(logits.argmax()))
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
    train(configure(arguments.dir, arguments.timesteps))


if __name__ == "__main__":
    main()
