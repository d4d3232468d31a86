"""`define_metric` and `best`: the best value stands beside the last, in the run and in each store."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from rl_logging import ExperimentLogger
from rl_logging.reading import read_metrics
from tests.support import wandb_file

VALUES = [1.0, 5.0, math.nan, 3.0]


def make(folder: Path, **options: Any) -> ExperimentLogger:
    return ExperimentLogger(options.pop("config", None), dir=folder / "runs", quiet=True, **options)


def test_the_best_value_is_what_an_objective_returns(tmp_path: Path) -> None:
    with make(tmp_path, delivery="disabled") as logger:
        logger.define_metric("reward", goal="max")
        logger.define_metric("loss", goal="min")
        assert logger.best("reward") is None
        for step, value in enumerate(VALUES):
            logger.log_metrics({"reward": value, "loss": value}, step=step)
        assert (logger.best("reward"), logger.best("loss")) == (5.0, 1.0)


def test_each_new_best_is_logged_with_its_step(tmp_path: Path) -> None:
    with make(tmp_path, delivery="offline", sinks={}) as logger:
        logger.define_metric("reward", goal="max")
        for step, value in enumerate(VALUES):
            logger.log_metrics({"reward": value}, step=100 * step)
    metrics = read_metrics(logger.run_dir)
    assert metrics["reward/best"].value.tolist() == [1.0, 5.0]
    assert metrics["reward/best_step"].value.tolist() == metrics["reward/best"].step.tolist() == [0, 100]


def test_the_stores_summaries_have_it(tmp_path: Path, mlflow_uri: str) -> None:
    config = {"mlflow": {"tracking_uri": mlflow_uri}, "wandb": {"mode": "offline", "dir": str(tmp_path)}}
    with make(tmp_path, config=config, delivery="thread") as logger:
        logger.define_metric("reward", goal="max", description="undiscounted return")
        for step, value in enumerate(VALUES):
            logger.log_metrics({"reward": value}, step=step)
    client = MlflowClient(mlflow_uri)
    data = client.get_run(logger.run_id("mlflow") or "").data
    assert (data.metrics["reward"], data.metrics["reward/best"], data.metrics["reward/best_step"]) == (3.0, 5.0, 1.0)
    assert data.params["define_metric/reward/goal"] == "max"
    summary = wandb_file.read(tmp_path).summary
    assert (summary["reward"], summary["reward/best"], summary["reward/best_step"]) == (3.0, 5.0, 1.0)


def test_a_resumed_run_knows_the_best_of_its_earlier_part(tmp_path: Path) -> None:
    for part, values in enumerate(([1.0, 5.0], [2.0, 4.0])):
        with make(tmp_path, delivery="offline", sinks={}, id="again", resume="auto") as logger:
            logger.define_metric("reward", goal="max")
            assert logger.best("reward") == (5.0 if part else None)
            for value in values:
                logger.log_metrics({"reward": value})
            assert logger.best("reward") == 5.0
    assert read_metrics(logger.run_dir)["reward/best"].value.tolist() == [1.0, 5.0]


def test_what_is_wrong_is_told_and_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with make(tmp_path, delivery="disabled") as logger:
        logger.define_metric("reward", goal="highest")  # type: ignore[arg-type]
        assert logger.best("reward") is None
    told = [record.getMessage() for record in caplog.records]
    assert any("'highest', may be 'max' or 'min'" in text for text in told)
    assert any("'reward' has no goal" in text for text in told)
