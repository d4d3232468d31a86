"""Trains PPO of stable-baselines3 and of skrl with several seeds, and draws their learning curves in one picture.

Run it as ``python -m rl_logging.examples.learning_curves``. No store is needed: the curves are read from the run
directories.
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any

import torch

from rl_logging.examples import sb3_ppo, skrl_ppo
from rl_logging.plotting import plot_metric


def train(folder: Path, seeds: int, timesteps: int) -> None:
    """Trains each framework's PPO once a seed; the runs are in ``rl_runs`` below `folder`."""
    for seed in range(1, seeds + 1):
        sb3, skrl = sb3_ppo.configure(folder), skrl_ppo.configure(folder, timesteps)
        skrl["trainer"] |= {"disable_progressbar": True, "close_environment_at_exit": False}
        for config in (sb3, skrl):
            _set(config, seed)
        sb3_ppo.train(sb3, timesteps)
        skrl_ppo.train(skrl)


def _set(config: dict[str, Any], seed: int) -> None:
    config |= {"seed": seed, "mlflow": None, "wandb": None}
    config["rl_logging"] |= {"name": f"{config['rl_logging']['name']}-{seed}", "delivery": "offline", "quiet": True}


def main() -> None:
    """Runs the example with the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each framework")
    parser.add_argument("--timesteps", type=int, default=100_000, help="environment steps of each training")
    parser.add_argument("--dir", type=Path, default=Path("cartpole"), help="folder for everything that is written")
    parser.add_argument("-o", "--output", type=Path, default=Path("learning_curves.png"), help="the picture")
    arguments = parser.parse_args()
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # a frame is drawn at the end, where there may be no display
    torch.set_num_threads(1)  # networks this small are slower on several
    logging.getLogger("skrl").setLevel(logging.WARNING)
    train(arguments.dir, arguments.seeds, arguments.timesteps)
    plot_metric("episode_reward_mean", str(arguments.dir / "rl_runs")).savefig(arguments.output)


if __name__ == "__main__":
    main()
