"""The demo: two frameworks in two stores, under the same names, on the same clock."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.support import wandb_file
from tests.support.processes import own_environ, run_command

TIMESTEPS = 16_000
NUM_ENVS = 8
SHARED = (
    "episode_reward_mean",
    "episode_length_mean",
    "policy_loss",
    "value_loss",
    "entropy",
    "learning_rate",
    "fps",
    "timesteps",
)


class Demo:
    """What a demo left behind.

    Args:
        folder: Where it wrote.
        done: How it ended.
    """

    def __init__(self, folder: Path, done: subprocess.CompletedProcess[str]) -> None:
        self.done = done
        self.folder = folder
        self.client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        experiment = self.client.get_experiment_by_name("rl_logging demo")
        assert experiment is not None, done.stdout + done.stderr
        self.runs = {run.info.run_name: run for run in self.client.search_runs([experiment.experiment_id])}
        offline = [wandb_file.read([path]) for path in wandb_file.offline_directories(folder)]
        self.offline = {run.name: run for run in offline}

    def history(self, run: Run, key: str) -> list[tuple[int, float]]:
        points = self.client.get_metric_history(run.info.run_id, key)
        return sorted((point.step, point.value) for point in points)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    command = f"rl-logging demo --dir out --timesteps {TIMESTEPS}"
    return Demo(folder / "out", run_command(command, folder, 600, own_environ(folder / "home")))


def test_it_ends_well_and_shows_what_was_delivered(demo: Demo) -> None:
    assert demo.done.returncode == 0, demo.done.stdout + demo.done.stderr
    assert set(demo.runs) == set(demo.offline) == {"sb3-ppo", "skrl-ppo"}
    for run in demo.runs:
        for sink in ("mlflow", "wandb"):
            (line,) = [line for line in demo.done.stdout.splitlines() if run in line and sink in line]
            delivered, *rest = [cell.strip() for cell in line.split("│")[3:-1]]
            assert int(delivered.replace(",", "")) > 40
            assert rest[2:] == ["0", "0"], "rejected and owed"
    assert f"mlflow ui --backend-store-uri sqlite:///{demo.folder / 'mlflow.db'}" in demo.done.stdout
    for path in wandb_file.offline_directories(demo.folder):
        assert str(path) in demo.done.stdout


@pytest.mark.parametrize("name", SHARED)
def test_both_frameworks_have_it_in_both_stores(demo: Demo, name: str) -> None:
    for run_name, run in demo.runs.items():
        points = demo.history(run, name)
        assert len(points) >= 10, (run_name, points)
        assert sorted(demo.offline[run_name].series(name)) == points


def test_they_stand_on_one_clock(demo: Demo) -> None:
    for run in demo.runs.values():
        for step, value in demo.history(run, "timesteps"):
            assert step == value
        for name in SHARED:
            steps = [step for step, _ in demo.history(run, name)]
            assert all(step % NUM_ENVS == 0 for step in steps), (name, steps)
            assert TIMESTEPS * 0.9 <= max(steps) <= TIMESTEPS * 1.1, (name, steps)


def test_names_mean_the_same(demo: Demo) -> None:
    for name, run in demo.runs.items():
        rewards, lengths = (dict(demo.history(run, f"episode_{what}_mean")) for what in ("reward", "length"))
        # CartPole gives 1 a step: an episode's return is its length, whoever counts.
        assert rewards == pytest.approx(lengths), name
        # Two actions: the entropy begins at ln 2, and falls.
        entropy = [value for _, value in demo.history(run, "entropy")]
        assert entropy[0] == pytest.approx(np.log(2), abs=0.05), name
        assert all(0 < value <= np.log(2) + 1e-6 for value in entropy), name
        assert all(value == pytest.approx(1e-3) for _, value in demo.history(run, "learning_rate")), name
        assert all(value > 0 for _, value in demo.history(run, "fps")), name


def test_both_learn(demo: Demo) -> None:
    for name, run in demo.runs.items():
        rewards = [value for _, value in demo.history(run, "episode_reward_mean")]
        assert rewards[0] < 60, name
        assert rewards[-1] > 3 * rewards[0], (name, rewards)
