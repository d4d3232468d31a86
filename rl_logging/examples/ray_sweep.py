"""Sweeps over settings of PPO on CartPole-v1 with Ray Tune: one run for the sweep, and one below it for each trial.

Run it as ``python -m rl_logging.examples.ray_sweep``; on a cluster, with ``--address auto``. What Tune writes has to
lie where all of a cluster's nodes can reach it: ``--storage`` says where.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import ray
from ray import tune
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from rl_logging.adapters.ray_tune import ExperimentLoggerCallback

SPACE: dict[str, Any] = {
    "learning_rate": tune.grid_search([3e-3, 3e-4]),
    "gamma": tune.grid_search([0.98, 0.9]),
    "seed": 1,
}
N_ENVS = 4
N_STEPS = 128


def configure(folder: Path) -> dict[str, Any]:
    """Returns the configuration of the sweep's own run, and one section for each store."""
    return {
        "algorithm": "PPO",
        "env": "CartPole-v1",
        "rl_logging": {"name": "ppo-sweep", "project": "cartpole-sweep", "dir": str(folder / "rl_runs")},
        "mlflow": {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"},
        "wandb": {"mode": "offline", "dir": str(folder)},
    }


def train(config: dict[str, Any]) -> None:
    """Trains one trial, reporting after each rollout until the scheduler has had enough; goes on from a checkpoint."""
    env = make_vec_env("CartPole-v1", n_envs=N_ENVS, seed=config["seed"])
    settings = {"learning_rate": config["learning_rate"], "gamma": config["gamma"]}
    before = tune.get_checkpoint()
    if before is None:
        model = PPO("MlpPolicy", env, n_steps=N_STEPS, seed=config["seed"], device="cpu", **settings)
    else:
        with before.as_directory() as folder:
            model = PPO.load(Path(folder, "model.zip"), env, device="cpu", custom_objects=settings)
    while True:
        model.learn(N_ENVS * N_STEPS, reset_num_timesteps=False)
        episodes = [episode["r"] for episode in model.ep_info_buffer]
        result: dict[str, Any] = {"timesteps_total": model.num_timesteps}
        if episodes:
            result |= {
                "episode_reward_mean": sum(episodes) / len(episodes),
                "episode_reward_min": min(episodes),
                "episode_reward_max": max(episodes),
            }
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder, "model.zip"))
            tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))


def sweep(folder: Path, timesteps: int, storage: str | None = None, at_once: int = 2) -> Any:
    """Runs the sweep; returns Tune's results.

    Args:
        folder: Where run directories and local stores go.
        timesteps: Environment steps of the longest trials; ASHA stops the others before.
        storage: Where Tune keeps its own files; None: in `folder`.
        at_once: How many trials run at once.
    """
    scheduler = tune.schedulers.ASHAScheduler(
        time_attr="timesteps_total", max_t=timesteps, grace_period=min(2 * N_ENVS * N_STEPS, timesteps)
    )
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            metric="episode_reward_mean", mode="max", scheduler=scheduler, max_concurrent_trials=at_once
        ),
        run_config=tune.RunConfig(
            name="ppo-sweep",
            storage_path=storage or str(folder / "ray"),
            callbacks=[ExperimentLoggerCallback(configure(folder))],
            verbose=0,
        ),
    )
    return tuner.fit()


def main() -> None:
    """Runs the example with the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timesteps", type=int, default=4_096, help="environment steps of the longest trials")
    parser.add_argument("--dir", type=Path, default=Path("ray-sweep"), help="folder for everything that is written")
    parser.add_argument("--address", help="a Ray cluster's address, such as 'auto'; without, Ray starts here")
    parser.add_argument("--storage", help="where Tune keeps its files; on a cluster, where all nodes can reach it")
    parser.add_argument("--at-once", type=int, default=2, help="how many trials run at once")
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if arguments.address:
        ray.init(address=arguments.address)
    else:
        ray.init(num_cpus=arguments.at_once, include_dashboard=False, log_to_driver=False)
    try:
        results = sweep(arguments.dir.absolute(), arguments.timesteps, arguments.storage, arguments.at_once)
        best = results.get_best_result()
        print(f"best: {best.metrics['episode_reward_mean']:.1f} with {best.config}")
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
