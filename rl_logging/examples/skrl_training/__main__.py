"""The command line of `rl_logging.examples.skrl_training`."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from rl_logging.examples.skrl_training.agents import ALGORITHMS, UnfitError
from rl_logging.examples.skrl_training.environments import ISAAC, TaskError, VideoPlan
from rl_logging.examples.skrl_training.training import Plan, train
from rl_logging.extraction import Interval

_Function = TypeVar("_Function", bound=Callable[..., Any])

log = logging.getLogger("rl_logging.examples")

DEFAULT_INTERVAL: Final = 10
ISAAC_ONLY: Final = ("AMP", "IPPO", "MAPPO")


def parse_interval(text: str) -> str | int:
    """Returns an interval as it was given, without blanks and in lower case; what is none is told, and 10.

    Args:
        text: ``step``, ``balanced``, ``rollout``, ``framework`` or a number.
    """
    if not text.strip():
        return DEFAULT_INTERVAL
    try:
        Interval.parse(text)
    except ValueError:
        log.warning("Invalid mlflow_log_interval '%s', using default (%d)", text, DEFAULT_INTERVAL)
        return DEFAULT_INTERVAL
    return text.strip().lower()


def _option(name: str, **settings: Any) -> Callable[[_Function], _Function]:
    """Returns an option that may be written with underscores, as the document does, or with hyphens."""
    hyphens = [f"--{name.replace('_', '-')}"] if "_" in name else []
    return click.option(f"--{name}", *hyphens, **settings)


@click.command(context_settings={"max_content_width": 110}, epilog="MLflow is where MLFLOW_TRACKING_URI says.")
@_option(
    "task", required=True, help="A Gymnasium task, such as CartPole-v1, or Isaac Lab's, such as Isaac-Cartpole-v0."
)
@_option(
    "algorithm",
    type=click.Choice([*ALGORITHMS, *ISAAC_ONLY], case_sensitive=False),
    default="PPO",
    show_default=True,
    help=f"{', '.join(ISAAC_ONLY)}: Isaac Lab's tasks only.",
)
@_option("num_envs", type=click.IntRange(1), help="Environments side by side.  [default: 8, or the Isaac Lab task's]")
@_option(
    "timesteps",
    type=click.IntRange(1),
    help="Environment steps to train for, over all environments.  [default: 50000, or the Isaac Lab task's]",
)
@_option("max_iterations", type=click.IntRange(1), help="Rollouts to train for, instead.")
@_option("seed", type=int, help="Seed of everything.  [default: a new one, which is logged]")
@_option(
    "mlflow_log_interval",
    default="balanced",
    show_default=True,
    help="step, balanced (10), rollout, framework (when skrl writes), or a number of steps.",
)
@_option("metric_filter", multiple=True, help="Metrics to log, by comma or given again: names, globs, and !name.")
@_option("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An agent to go on from.")
@_option("video", is_flag=True, help="Film the first environment (Isaac Lab: its viewport).")
@_option("video_length", type=click.IntRange(1), default=200, show_default=True, help="Steps in a video.")
@_option("video_interval", type=click.IntRange(1), default=2000, show_default=True, help="Steps between their starts.")
@_option("headless", is_flag=True, help="Isaac Lab: show no window. Gymnasium's tasks show none anyway.")
@_option("agent", help="Isaac Lab: the entry point of the agent's configuration.")
@_option(
    "ml_framework", type=click.Choice(["torch"]), default="torch", show_default=True, help="What skrl computes with."
)
@_option("distributed", is_flag=True, help="Taken for the document's sake: torchrun says it all.")
@_option(
    "dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("logs") / "skrl",
    show_default=True,
    help="Folder for log directories.",
)
def main(**given: Any) -> None:
    """Trains a task with skrl, logged to MLflow: metrics, params, tags, checkpoints and videos."""
    algorithm = given["algorithm"].upper()
    if algorithm in ISAAC_ONLY and not given["task"].startswith(ISAAC):
        raise click.UsageError(f"--algorithm: {algorithm} is for Isaac Lab's tasks; here: {', '.join(ALGORITHMS)}")
    names = ",".join(given["metric_filter"]).split(",")
    plan = Plan(
        task=given["task"],
        algorithm=algorithm,
        num_envs=given["num_envs"],
        timesteps=given["timesteps"],
        max_iterations=given["max_iterations"],
        seed=given["seed"] if given["seed"] is not None else random.SystemRandom().randint(1, 1_000_000),
        interval=parse_interval(given["mlflow_log_interval"]),
        metric_filter=tuple(name.strip() for name in names if name.strip()),
        checkpoint=given["checkpoint"],
        video=VideoPlan(given["video_length"], given["video_interval"]) if given["video"] else None,
        headless=given["headless"],
        agent=given["agent"],
        folder=given["dir"],
    )
    try:
        train(plan)
    except (TaskError, UnfitError) as error:
        raise click.UsageError(str(error)) from error


if __name__ == "__main__":
    main(prog_name="python -m rl_logging.examples.skrl_training")
