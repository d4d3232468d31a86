"""Learning curves of real runs, from run directories and from MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from rl_logging import ExperimentLogger
from rl_logging.cli import main
from rl_logging.plotting import CurvesError, learning_curves, plot_metric
from rl_logging.plotting.figure import told_apart
from rl_logging.retrieval import open_store

METRIC = "episode_reward_mean"


def train(folder: Path, framework: str, seed: int, status: Any = "finished", **config: object) -> None:
    given = {"algo": {"class": "PPO", "framework": framework}, "env": {"id": "CartPole-v1"}, "seed": seed}
    options = {"dir": folder / "rl_runs", "delivery": "offline", "quiet": True, "name": f"{framework}-{seed}"}
    if "mlflow" in config:
        options["delivery"] = "thread"
    logger = ExperimentLogger({**given, "mlflow": None, **config}, **options)  # type: ignore[arg-type]
    slope = 2.0 if framework == "skrl" else 1.0
    for step in range(0, 1001, 100 if framework == "skrl" else 125):
        logger.log_metrics({METRIC: slope * step + seed, "loss": 1.0}, step=step)
    logger.finish(status)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curves")
    for seed in range(3):
        train(folder, "skrl", seed)
        train(folder, "stable_baselines3", seed)
    train(folder, "skrl", 1000, "failed")
    return folder


def test_seeds_of_one_setting_are_one_curve(folder: Path) -> None:
    keys, curves = learning_curves([open_store(str(folder / "rl_runs"))], METRIC)
    assert keys == ("framework", "algorithm", "env")
    assert [(curve.setting, curve.runs) for curve in curves] == [
        (("skrl", "PPO", "CartPole-v1"), 3),
        (("stable_baselines3", "PPO", "CartPole-v1"), 3),
    ]
    first = curves[0]
    assert (first.step[0], first.step[-1]) == (0.0, 1000.0)
    np.testing.assert_allclose(first.middle, 2.0 * first.step + 1.0)
    np.testing.assert_array_less(2.0 * first.step - 1e-9, first.low)
    assert np.all(first.low < first.middle)
    assert np.all(first.high > first.middle)
    assert told_apart(curves) == (["PPO", "CartPole-v1"], ["skrl", "stable_baselines3"])


def test_other_keys(folder: Path) -> None:
    stores = [open_store(str(folder / "rl_runs"))]
    _, curves = learning_curves(stores, METRIC, group_by=["algo.class", "seed"])
    assert [curve.setting for curve in curves] == [("PPO", "0"), ("PPO", "1"), ("PPO", "2")]
    assert {curve.runs for curve in curves} == {2}
    _, curves = learning_curves(stores, METRIC, failed_too=True)
    assert [curve.runs for curve in curves] == [4, 3]


def test_a_sweeps_runs_are_no_seeds_of_each_other(tmp_path: Path) -> None:
    common = {"dir": tmp_path, "delivery": "offline", "quiet": True, "group": "g"}
    with ExperimentLogger({"rate": 0.0}, name="sweep", **common) as sweep:
        for rate in (0.1, 0.2):
            for seed in range(2):
                with sweep.child(f"{rate}-{seed}", {"rate": rate, "env": {"id": "E", "seed": seed}}) as trial:
                    trial.log_metrics({METRIC: rate}, step=0)
                    trial.log_metrics({METRIC: rate}, step=10)
    keys, curves = learning_curves([open_store(str(tmp_path))], METRIC)
    assert keys == ("group", "rate")
    assert [(curve.setting, curve.runs) for curve in curves] == [(("g", "0.1"), 2), (("g", "0.2"), 2)]


def test_a_store_and_run_directories_in_one_picture(folder: Path, tmp_path: Path, mlflow_uri: str) -> None:
    train(tmp_path, "skrl", 7, mlflow={"tracking_uri": mlflow_uri})
    _, curves = learning_curves([open_store(str(folder / "rl_runs")), open_store(mlflow_uri)], METRIC)
    assert [curve.runs for curve in curves] == [4, 3]


def test_the_figure_says_what_it_shows(folder: Path) -> None:
    figure = plot_metric(METRIC, str(folder / "rl_runs"))
    (axes,) = figure.axes
    assert axes.get_title() == "PPO, CartPole-v1"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "skrl (3 seeds)",
        "stable_baselines3 (3 seeds)",
    ]
    assert axes.get_xlabel() == "environment steps"
    assert axes.get_ylabel() == "episode reward mean"


def test_the_command(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    store = str(folder / "rl_runs")
    done = CliRunner().invoke(main, ["plot", store, "--metric", METRIC, "--group-by", "framework", "-o", str(picture)])
    assert done.exit_code == 0, done.output
    assert "framework skrl: 3 runs, to step 1,000" in done.output
    with Image.open(picture) as image:
        assert image.width > 1000
    wrong = CliRunner().invoke(main, ["plot", store, "--metric", "reward"])
    assert wrong.exit_code == 1
    assert f"no run has the metric 'reward'; there are: {METRIC}, loss" in wrong.output


def test_only_failed_runs(tmp_path: Path) -> None:
    train(tmp_path, "skrl", 0, "killed")
    with pytest.raises(CurvesError, match="only runs that failed or were killed"):
        learning_curves([open_store(str(tmp_path / "rl_runs"))], METRIC)
