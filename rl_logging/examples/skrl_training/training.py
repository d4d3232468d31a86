"""One training: what the run is told about it, and what it leaves behind."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import click
import skrl
import yaml
from skrl.utils.runner.torch import Runner

from rl_logging import ExperimentLogger
from rl_logging.adapters.skrl import attach
from rl_logging.examples.skrl_training.agents import runner_config
from rl_logging.examples.skrl_training.environments import ISAAC, Show, VideoPlan, make_gymnasium, make_isaac
from rl_logging.media import slug

ENTRY_POINT: Final = "rl_logging.examples.skrl_training"
ARTIFACTS: Final = "skrl-run"
CHECKPOINTS: Final = f"{ARTIFACTS}/checkpoints"
RUN_ID_S: Final = 30.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to train, and how.

    Attributes:
        task: The task's id.
        algorithm: The algorithm's name.
        num_envs: Environments side by side; None: 8, or what an Isaac Lab task says.
        timesteps: Environment steps to train for, over all environments; None: 50,000, or what an Isaac Lab task says.
        max_iterations: Rollouts to train for, instead.
        seed: Of everything.
        interval: How often metrics are logged, a word or a number.
        metric_filter: What is logged; empty: everything.
        checkpoint: The file to go on from, or None.
        video: What is filmed, or None.
        headless: Whether Isaac Lab shows no window.
        agent: The entry point of an Isaac Lab agent's configuration, or None.
        folder: Where log directories go.
    """

    task: str
    algorithm: str
    num_envs: int | None
    timesteps: int | None
    max_iterations: int | None
    seed: int
    interval: str | int
    metric_filter: tuple[str, ...]
    checkpoint: Path | None
    video: VideoPlan | None
    headless: bool
    agent: str | None
    folder: Path


def train(plan: Plan) -> ExperimentLogger:
    """Trains as planned; returns the logger, finished.

    Raises:
        TaskError: The task cannot be trained here.
        UnfitError: Nor by this algorithm.
    """
    name = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d_%H-%M-%S}_{plan.algorithm.lower()}_torch"
    log_dir = (plan.folder / slug(plan.task) / name).absolute()
    filming: list[Show] = []
    with _environment(plan, log_dir, lambda frames, step: filming[0](frames, step)) as (env, config):
        rollouts = _complete(config, plan, env.num_envs, log_dir)
        interval = rollouts if plan.interval == "rollout" else plan.interval
        tags = _tags(plan, log_dir)
        settings: dict[str, Any] = {
            **{"name": name, "interval": interval, "tags": tags, "dir": str(log_dir / "rl_runs")},
            **{"metric_filter": list(plan.metric_filter) or None, "system_metrics": True},
        }
        told = {
            **{"algorithm": plan.algorithm, "ml_framework": "torch", "num_envs": env.num_envs},
            **{"distributed": bool(skrl.config.torch.is_distributed), "resume_checkpoint": plan.checkpoint is not None},
            **{"seed": plan.seed, "mlflow_log_interval": plan.interval},
        }
        sinks = {"mlflow": {"artifact_path": "{name}"}}
        silent: Literal["disabled"] | None = "disabled" if skrl.config.torch.rank else None  # one run for all processes
        with ExperimentLogger({**told, "rl_logging": settings}, sinks=sinks, delivery=silent) as logger:
            outcome = "failed"
            try:
                runner = Runner(env, config)
                if plan.checkpoint is not None:
                    runner.agent.load(str(plan.checkpoint))
                _keep_config(config, log_dir)
                attach(logger, runner, checkpoints=False)
                filming.append(lambda frames, step: logger.log_video("train", frames, step=step * env.num_envs, fps=30))
                runner.run("train")
                outcome = "success"
            finally:
                try:
                    env.close()  # ends the video that is being filmed, while the run takes it
                finally:
                    _leave(logger, plan, log_dir, tags, outcome)
    return logger


@contextlib.contextmanager
def _environment(plan: Plan, log_dir: Path, show: Show) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Gives the environment and the Runner's configuration for it."""
    if plan.task.startswith(ISAAC):
        task = make_isaac(
            plan.task,
            plan.num_envs,
            seed=plan.seed,
            algorithm=plan.algorithm,
            agent=plan.agent,
            headless=plan.headless,
            video=plan.video,
            video_dir=log_dir / "videos" / "train",
        )
        try:
            yield task.env, task.config
        finally:
            task.env.close()
            task.close()
        return
    env = make_gymnasium(plan.task, plan.num_envs or 8, seed=plan.seed, video=plan.video, show=show)
    try:
        yield env, runner_config(plan.algorithm, env)
    finally:
        env.close()


def _complete(config: dict[str, Any], plan: Plan, num_envs: int, log_dir: Path) -> int:
    """Adds what the plan says to a Runner's configuration; returns the agent's rollouts."""
    agent = config["agent"]
    rollouts = int(agent.get("rollouts", 1))
    trainer = config.setdefault("trainer", {"class": "SequentialTrainer", "timesteps": 50_000 // num_envs})
    if plan.max_iterations is not None:
        trainer["timesteps"] = plan.max_iterations * rollouts
    elif plan.timesteps is not None:
        trainer["timesteps"] = max(1, plan.timesteps // num_envs)
    trainer |= {"headless": True, "close_environment_at_exit": False}
    every = max(1, trainer["timesteps"] // 10)
    agent["experiment"] = {
        **{"write_interval": "auto", "checkpoint_interval": every},
        **(agent.get("experiment") or {}),
        **{"directory": str(log_dir.parent), "experiment_name": log_dir.name},
    }
    config["seed"] = plan.seed
    return rollouts


def _tags(plan: Plan, log_dir: Path) -> list[str]:
    tags = {
        **{"log_dir": str(log_dir), "task": plan.task, "entrypoint": ENTRY_POINT},
        "checkpoint_mode": "from-scratch" if plan.checkpoint is None else "resume",
    }
    if plan.checkpoint is not None:
        tags |= {
            "checkpoint_resume": str(plan.checkpoint),
            "checkpoint_source_uri": plan.checkpoint.absolute().as_uri(),
        }
    correlation = os.environ.get("MLFLOW_CORRELATION_ID", "").strip()
    if correlation:
        tags["correlation_id"] = correlation
    return _labels(tags)


def _labels(tags: dict[str, str]) -> list[str]:
    return [f"{key}:{value}" for key, value in tags.items()]


def _keep_config(config: dict[str, Any], log_dir: Path) -> None:
    folder = log_dir / "params"
    folder.mkdir(parents=True, exist_ok=True)
    plain = yaml.safe_dump(_plain(config), sort_keys=False)
    (folder / "agent.yaml").write_text(plain, encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _leave(logger: ExperimentLogger, plan: Plan, log_dir: Path, tags: list[str], outcome: str) -> None:
    """Logs what is in the log directory, and how it went."""
    config, checkpoints = log_dir / "params" / "agent.yaml", log_dir / "checkpoints"
    late = {"training_outcome": outcome}
    if config.is_file():
        logger.log_artifact(config, name=ARTIFACTS, type="config")
    written = [path for path in checkpoints.rglob("*") if path.is_file()] if checkpoints.is_dir() else []
    if written:
        logger.log_artifact(checkpoints, name=CHECKPOINTS, type="model")
        # The best one so far is written again and again, with what was best earlier.
        newest = [path for path in written if not path.name.startswith("best_")] or written
        # Where the file system's clock does not tell two apart, their number does.
        latest = max(newest, key=lambda path: (path.stat().st_mtime_ns, len(path.name), path.name))
        run_id = logger.run_id("mlflow", timeout=RUN_ID_S)
        root = f"runs:/{run_id}/{CHECKPOINTS}" if run_id is not None else CHECKPOINTS
        late |= {
            "checkpoint_directory": root,
            "checkpoint_latest": f"{root}/{latest.relative_to(checkpoints).as_posix()}",
        }
        click.echo(f"latest checkpoint: {late['checkpoint_latest']}")
    logger.set_tags(*tags, *_labels(late))
