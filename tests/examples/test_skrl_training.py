"""The SKRL training script: what its command line does, and what MLflow then has.

Isaac Lab cannot be had here: a few modules of its names stand in for it, around a Gymnasium task.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import gymnasium
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Run

pytest.importorskip("skrl")

from rl_logging.examples.skrl_training import environments
from rl_logging.examples.skrl_training.__main__ import main, parse_interval
from rl_logging.examples.skrl_training.agents import runner_config
from tests.support.mlflow_database import database

SHORT = ("--num_envs", "2", "--timesteps", "160", "--seed", "3")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    return MlflowClient(database(tmp_path_factory.mktemp("store") / "mlflow.db"))


@pytest.fixture
def train(client: MlflowClient, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[..., Run]:
    """Trains as a command line says; returns its run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)

    def run(*arguments: str) -> Run:
        main(args=list(arguments), standalone_mode=False)
        return the_run(client, request.node.name)

    return run


def the_run(client: MlflowClient, experiment: str) -> Run:
    """Returns an experiment's newest run."""
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return client.search_runs([found.experiment_id])[0]


def test_a_run_is_found_as_the_toolchain_leaves_it(
    train: Callable[..., Run], client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_CORRELATION_ID", "job-7")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    video = ("--video", "--video_length", "5", "--video_interval", "50")
    run = train("--task", "CartPole-v1", *SHORT, "--mlflow_log_interval", " Rollout ", *video)
    expected = {
        **{"algorithm": "PPO", "ml_framework": "torch", "num_envs": "2", "distributed": "False"},
        **{"resume_checkpoint": "False", "seed": "3", "mlflow_log_interval": "rollout"},
    }
    assert {name: run.data.params.get(name) for name in expected} == expected
    (log_dir,) = (tmp_path / "logs" / "skrl" / "CartPole-v1").iterdir()
    checkpoints = f"runs:/{run.info.run_id}/skrl-run/checkpoints"
    tags = {
        **{"log_dir": str(log_dir), "task": "CartPole-v1", "entrypoint": "rl_logging.examples.skrl_training"},
        **{"checkpoint_mode": "from-scratch", "correlation_id": "job-7", "training_outcome": "success"},
        **{"checkpoint_directory": checkpoints, "checkpoint_latest": f"{checkpoints}/agent_80.pt"},
    }
    assert {name: run.data.tags.get(name) for name in tags} == tags
    assert (run.info.status, run.info.run_name) == ("FINISHED", log_dir.name)
    found = files(client, run)
    assert {"skrl-run/agent.yaml", "skrl-run/checkpoints/agent_80.pt"} <= set(found)
    assert [path for path in found if path.startswith("videos/")] == [
        "videos/train/step_0.mp4",
        "videos/train/step_100.mp4",
    ]
    points = client.get_metric_history(run.info.run_id, "timesteps")
    assert [point.step for point in points] == [128, 160]


def test_a_video_that_the_end_cuts_short_is_logged(
    train: Callable[..., Run], client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    run = train("--task", "CartPole-v1", *SHORT, "--video", "--video_length", "50", "--video_interval", "70")
    videos = [path for path in files(client, run) if path.startswith("videos/")]
    assert videos == ["videos/train/step_0.mp4", "videos/train/step_140.mp4"]


def test_a_run_goes_on_from_a_checkpoint(train: Callable[..., Run], tmp_path: Path) -> None:
    first = train("--task", "Pendulum-v1", "--algorithm", "sac", *SHORT, "--metric-filter", "timesteps,!fps")
    assert set(first.data.metrics) - {name for name in first.data.metrics if name.startswith("system/")} == {
        "timesteps"
    }
    (checkpoint,) = tmp_path.glob("logs/skrl/*/*/checkpoints/agent_80.pt")
    with pytest.raises(click.UsageError, match="SAC is for Box actions"):
        train("--task", "CartPole-v1", "--algorithm", "SAC", *SHORT)
    second = train("--task", "Pendulum-v1", "--algorithm", "SAC", *SHORT, "--checkpoint", str(checkpoint))
    assert second.info.run_id != first.info.run_id
    assert second.data.params["resume_checkpoint"] == "True"
    tags = {
        **{"checkpoint_mode": "resume", "checkpoint_resume": str(checkpoint)},
        "checkpoint_source_uri": checkpoint.as_uri(),
    }
    assert {name: second.data.tags.get(name) for name in tags} == tags


def test_a_run_named_by_the_environment_is_gone_on_with_and_not_ended(
    train: Callable[..., Run], client: MlflowClient, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    experiment = client.create_experiment(request.node.name)
    job = client.create_run(experiment, run_name="job")
    monkeypatch.setenv("MLFLOW_RUN_ID", job.info.run_id)
    run = train("--task", "CartPole-v1", *SHORT)
    assert (run.info.run_id, run.info.status, run.info.run_name) == (job.info.run_id, "RUNNING", "job")
    assert run.data.params["algorithm"] == "PPO"
    assert run.data.tags["training_outcome"] == "success"
    assert run.data.metrics["timesteps"] == 160


class Breaks(gymnasium.Wrapper):
    """CartPole for a while."""

    def step(self, action: Any) -> Any:
        self.count = getattr(self, "count", 0) + 1
        if self.count > 70:
            raise RuntimeError("the simulator has crashed")
        return super().step(action)


def test_a_training_that_fails_is_a_run_that_failed(
    train: Callable[..., Run], client: MlflowClient, request: pytest.FixtureRequest
) -> None:
    gymnasium.register("Breaks-v0", entry_point=lambda **kwargs: Breaks(gymnasium.make("CartPole-v1", **kwargs)))
    try:
        with pytest.raises(RuntimeError, match="the simulator has crashed"):
            train("--task", "Breaks-v0", *SHORT)
    finally:
        del gymnasium.registry["Breaks-v0"]
    run = the_run(client, request.node.name)
    assert (run.info.status, run.data.tags["training_outcome"]) == ("FAILED", "failed")
    assert run.data.metrics["timesteps"] >= 120  # what there was before is there


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("step", "step"),
        (" BALANCED", "balanced"),
        ("Rollout", "rollout"),
        ("framework", "framework"),
        ("25", "25"),
        ("", 10),
    ],
)
def test_intervals_are_read(text: str, interval: str | int, caplog: pytest.LogCaptureFixture) -> None:
    assert parse_interval(text) == interval
    assert caplog.text == ""


@pytest.mark.parametrize("text", ["often", "0", "-3", "1.5"])
def test_an_interval_that_is_none_is_told_and_means_ten(text: str, caplog: pytest.LogCaptureFixture) -> None:
    assert parse_interval(text) == 10
    assert f"Invalid mlflow_log_interval '{text}', using default (10)" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--task", "Isaac-Cartpole-v0"], "'Isaac-Cartpole-v0' is a task of Isaac Lab, which is not installed"),
        (["--task", "NoSuchTask-v0"], "--task: Environment `NoSuchTask` doesn't exist"),
        (["--task", "CartPole-v1", "--algorithm", "MAPPO"], "MAPPO is for Isaac Lab's tasks; here: PPO, A2C"),
        ([], "Missing option '--task'"),
    ],
)
def test_what_cannot_be_trained_is_told(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())


def test_an_isaac_lab_task_is_made_as_isaac_lab_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order: list[Any] = []
    cfg = SimpleNamespace(scene=SimpleNamespace(num_envs=4096), seed=None)

    class AppLauncher:
        def __init__(self, **options: Any) -> None:
            order.append(("launched", options))
            self.app = SimpleNamespace(close=lambda: order.append("closed"))

    def load(task: str, entry_point: str) -> Any:
        order.append((task, entry_point))
        return cfg if entry_point.startswith("env") else {"agent": {"class": "PPO"}}

    stand_ins = {
        "isaaclab": {},
        "isaaclab.app": {"AppLauncher": AppLauncher},
        "isaaclab_tasks": {},
        "isaaclab_tasks.utils": {"load_cfg_from_registry": load},
        "isaaclab_rl": {},
        "isaaclab_rl.skrl": {"SkrlVecEnvWrapper": lambda env, ml_framework: (env, ml_framework)},
    }
    for name, members in stand_ins.items():
        module = ModuleType(name)
        module.__spec__ = SimpleNamespace(name=name)  # type: ignore[assignment]
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    gymnasium.register(
        "Isaac-Stand-In-v0", entry_point=lambda cfg, **kwargs: gymnasium.make("CartPole-v1", **kwargs).unwrapped
    )
    try:
        task = environments.make_isaac(
            "Isaac-Stand-In-v0",
            16,
            seed=5,
            algorithm="MAPPO",
            agent=None,
            headless=True,
            video=None,
            video_dir=tmp_path,
        )
        with pytest.raises(environments.TaskError, match="Isaac Lab has no task 'Isaac-Other-v0'"):
            environments.make_isaac(
                "Isaac-Other-v0",
                None,
                seed=5,
                algorithm="PPO",
                agent=None,
                headless=True,
                video=None,
                video_dir=tmp_path,
            )
    finally:
        del gymnasium.registry["Isaac-Stand-In-v0"]
    task.close()
    assert (cfg.scene.num_envs, cfg.seed) == (16, 5)
    assert order[0] == ("launched", {"headless": True, "enable_cameras": False})
    assert order[1:3] == [
        ("Isaac-Stand-In-v0", "env_cfg_entry_point"),
        ("Isaac-Stand-In-v0", "skrl_mappo_cfg_entry_point"),
    ]
    assert order[-1] == "closed"
    assert (task.env[1], task.config) == ("torch", {"agent": {"class": "PPO"}})


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "SAC", "TD3", "DDPG", "DQN", "DDQN"])
def test_each_algorithm_can_be_made(algorithm: str) -> None:
    from skrl.utils.runner.torch import Runner

    task = "CartPole-v1" if "Q" in algorithm else "Pendulum-v1"
    env = environments.make_gymnasium(task, 2, seed=1, video=None, show=print)
    config = runner_config(algorithm, env)
    config["agent"]["experiment"] = {"write_interval": 0, "checkpoint_interval": 0}
    config["trainer"] = {"class": "SequentialTrainer", "timesteps": 4, "disable_progressbar": True}
    config["trainer"] |= {"headless": True, "close_environment_at_exit": False}
    Runner(env, config).run("train")


def files(client: MlflowClient, run: Run, folder: str | None = None) -> list[str]:
    found: list[str] = []
    for entry in client.list_artifacts(run.info.run_id, folder):
        found += files(client, run, entry.path) if entry.is_dir else [entry.path]
    return sorted(found)
