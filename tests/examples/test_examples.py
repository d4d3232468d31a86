"""The examples, run as people run them, and what the stores then have."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image as Picture

from rl_logging.reading import read_metrics
from tests.support import wandb_file
from tests.support.mlflow_database import database
from tests.support.processes import own_environ, run_command

TIMESTEPS = {"sb3_ppo": 2048, "skrl_ppo": 2048, "custom_loop": 50_000}


@dataclass
class Ran:
    """What an example left behind: MLflow's client and run, and W&B's files."""

    client: MlflowClient
    run: Run
    offline: wandb_file.OfflineRun


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ran]:
    """Runs ``python -m rl_logging.examples.<name>``, once a name."""

    @functools.cache
    def run(name: str) -> Ran:
        cwd = tmp_path_factory.mktemp(name)
        client = MlflowClient(database(cwd / "out" / "mlflow.db"))
        command = f"python -m rl_logging.examples.{name} --timesteps {TIMESTEPS[name]} --dir out"
        done = run_command(command, cwd, env=own_environ(cwd / "home"))
        assert done.returncode == 0, done.stderr
        assert "mlflow ui --backend-store-uri" in done.stderr
        assert "still owed" not in done.stderr
        experiment = client.get_experiment_by_name("cartpole")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        return Ran(client, run, wandb_file.read(cwd / "out"))

    return run


@pytest.mark.parametrize(
    ("name", "model", "param"),
    [
        ("sb3_ppo", "ppo", ("ppo/n_steps", "128")),
        ("skrl_ppo", "ppo", ("agent/rollouts", "128")),
        ("custom_loop", "policy", ("cem/population", "24")),
    ],
)
def test_each_example_logs_everything_to_both_stores(
    example: Callable[[str], Ran], name: str, model: str, param: tuple[str, str]
) -> None:
    ran = example(name)
    data = ran.run.data
    assert ran.run.info.status == "FINISHED"
    assert data.params[param[0]] == param[1]
    assert data.params["evaluation/episodes"] == "1"
    reward = data.metrics["eval/reward"]
    files = _files(ran.client, ran.run.info.run_id)
    (video,) = [path for path in files if path.startswith("videos/episode/step_") and path.endswith(".mp4")]
    (image,) = [path for path in files if path.startswith("images/last_frame") and path.endswith(".png")]
    (told,) = [path for path in files if path.startswith(f"models/{model}/step_") and path.endswith("metadata.json")]
    assert files[video] > 1000
    assert files[image] > 1000
    metadata = json.loads(Path(ran.client.download_artifacts(ran.run.info.run_id, told)).read_text())
    assert metadata["metadata"] == {"reward": reward}

    assert dict(ran.offline.series("eval/reward")) == {metadata["step"]: reward}
    (artifact,) = [artifact for artifact in ran.offline.artifacts if artifact["type"] == "model"]
    assert artifact["metadata"]["reward"] == reward
    assert "final" in artifact["aliases"]
    assert ran.offline.exit_codes == [0]


def test_the_loop_of_ones_own_learns(example: Callable[[str], Ran]) -> None:
    ran = example("custom_loop")
    points = ran.client.get_metric_history(ran.run.info.run_id, "episode_reward_mean")
    assert points[-1].value > 5 * points[0].value
    # The mean of an array that was logged whole is the mean that was logged.
    series = ran.offline.series
    assert series("episode_reward/mean") == series("episode_reward_mean") == [(p.step, p.value) for p in points]
    assert len(series("policy/weight/3")) == len(points)
    assert all(step == value for step, value in series("timesteps"))


def _files(client: MlflowClient, run_id: str, folder: str | None = None) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in client.list_artifacts(run_id, folder):
        found |= _files(client, run_id, entry.path) if entry.is_dir else {entry.path: entry.file_size}
    return found


def test_learning_curves_of_both_frameworks(tmp_path: Path) -> None:
    command = "python -m rl_logging.examples.learning_curves --timesteps 2048 --seeds 2 --dir out -o curves.png"
    done = run_command(command, tmp_path, env=own_environ(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    metrics = read_metrics(tmp_path / "out" / "rl_runs", "episode_reward_mean")
    assert sorted(run.run for run in metrics.runs if len(run)) == ["sb3-ppo-1", "sb3-ppo-2", "skrl-ppo-1", "skrl-ppo-2"]
    with Picture.open(tmp_path / "curves.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 10
