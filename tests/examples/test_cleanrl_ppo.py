"""The loop in CleanRL's manner, run as people run it, and what the stores then have."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from rl_logging.examples.cleanrl_ppo import main
from tests.support import wandb_file
from tests.support.mlflow_database import database
from tests.support.processes import own_environ, run_command

TIMESTEPS = 1024
UPDATES = TIMESTEPS // (4 * 128)
EACH_UPDATE = [
    "charts/SPS",
    "charts/learning_rate",
    *(
        f"losses/{name}"
        for name in (
            "approx_kl",
            "clipfrac",
            "entropy",
            "explained_variance",
            "old_approx_kl",
            "policy_loss",
            "value_loss",
        )
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("cleanrl")
    database(cwd / "out" / "mlflow.db")
    command = (
        f"python -m rl_logging.examples.cleanrl_ppo --total-timesteps {TIMESTEPS} --dir out --capture-video "
        "--no-clip-vloss --learning-rate 1e-3"
    )
    done = run_command(command, cwd, env={**own_environ(cwd / "home"), "SDL_VIDEODRIVER": "dummy"})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "still owed" not in done.stderr
    return cwd / "out"


@pytest.fixture(scope="module")
def client(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


@pytest.fixture(scope="module")
def run(client: MlflowClient) -> Run:
    experiment = client.get_experiment_by_name("cartpole")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    return found


@pytest.fixture(scope="module")
def points(client: MlflowClient, run: Run) -> Callable[[str], list[tuple[int, float]]]:
    return lambda name: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)]


def test_every_scalar_is_in_both_stores_under_its_tag(
    folder: Path, run: Run, points: Callable[[str], list[tuple[int, float]]]
) -> None:
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("CartPole-v1__cleanrl_ppo__1__")
    assert run.data.params["learning_rate"] == "0.001"
    assert run.data.params["clip_vloss"] == "False"
    offline = wandb_file.read(folder)
    assert sorted(run.data.metrics) == sorted(["charts/episodic_length", "charts/episodic_return", *EACH_UPDATE])
    for name in EACH_UPDATE:
        assert [step for step, _ in points(name)] == [512 * (update + 1) for update in range(UPDATES)], name
    for name in run.data.metrics:
        # Episodes that end in one step: MLflow gives what came in one millisecond in no order.
        assert sorted(points(name)) == sorted(offline.series(name)), name
        assert all(math.isfinite(value) for _, value in points(name)), name


def test_the_episodes_are_those_of_the_environment(points: Callable[[str], list[tuple[int, float]]]) -> None:
    returns, lengths = points("charts/episodic_return"), points("charts/episodic_length")
    assert sorted(returns) == sorted(lengths), "CartPole gives 1 for each step"
    assert len(returns) > 20
    assert sum(value for _, value in lengths) <= TIMESTEPS


def test_the_hyperparameters_and_the_videos_are_there(client: MlflowClient, run: Run, folder: Path) -> None:
    path = "artifacts/text-hyperparameters/step_0/text-hyperparameters.md"
    text = Path(client.download_artifacts(run.info.run_id, path)).read_text(encoding="utf-8")
    assert text.startswith("|param|value|\n|-|-|\n")
    assert "|learning_rate|0.001|" in text
    recorded = sorted(path.name for path in folder.glob("videos/*/*.mp4"))
    assert "rl-video-episode-0.mp4" in recorded
    logged = [entry.path for entry in client.list_artifacts(run.info.run_id, "videos/rl-video")]
    assert len(logged) == len(recorded)


@pytest.mark.parametrize(("env_id", "has"), [("Pendulum-v1", "Box"), ("FrozenLake-v1", "Discrete")])
def test_an_environment_that_does_not_fit_is_told_before_there_is_a_run(
    env_id: str, has: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["cleanrl_ppo", "--env-id", env_id, "--dir", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=rf"--env-id {env_id}: this example needs discrete actions .* got .*{has}"):
        main()
    assert not (tmp_path / "out").exists()
