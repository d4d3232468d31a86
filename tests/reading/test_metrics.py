"""Reading metrics back from run directories."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from rl_logging import ExperimentLogger
from rl_logging.bundle import BundleError
from rl_logging.reading import read_metrics


def make_run(folder: Path, name: str, scale: float = 1.0, *, finish: bool = True) -> ExperimentLogger:
    logger = ExperimentLogger(None, name=name, dir=folder, delivery="offline", sinks={}, quiet=True)
    for step in range(3):
        logger.log_metrics({"loss": scale * step, "eval": {"reward": math.nan if step == 1 else step}}, step=10 * step)
    if finish:
        logger.finish()
    return logger


def test_one_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first")
    metrics = read_metrics(run.run_dir)
    assert list(metrics) == ["loss", "eval/reward"]
    loss = metrics["loss"]
    assert loss.step.tolist() == [0, 10, 20]
    assert loss.value.tolist() == [0.0, 1.0, 2.0]
    assert loss.step.dtype == np.int64
    assert np.all(np.diff(loss.time) >= 0)
    np.testing.assert_array_equal(metrics["eval/reward"].value, [0.0, np.nan, 2.0])


def test_several_runs_by_folder_pattern_and_list(tmp_path: Path) -> None:
    first, second = make_run(tmp_path, "first"), make_run(tmp_path, "second", 2.0)
    for where in (tmp_path, str(tmp_path / "*"), [first.run_dir, second.run_dir, str(second.run_dir)]):
        metrics = read_metrics(where)
        assert [run.run for run in metrics.runs] == ["first", "second"]
        assert metrics["loss"].value.tolist() == [0.0, 1.0, 2.0, 0.0, 2.0, 4.0]
        assert metrics.runs[1]["loss"].value.tolist() == [0.0, 2.0, 4.0]


def test_only_some_metrics(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first")
    assert list(read_metrics(run.run_dir, "eval/*")) == ["eval/reward"]
    assert list(read_metrics(run.run_dir, ["loss", "nothing"])) == ["loss"]


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first", finish=False)
    assert len(read_metrics(run.run_dir)["loss"].step) == 3
    run.log_metrics({"loss": 7.0}, step=30)
    assert read_metrics(run.run_dir)["loss"].value[-1] == 7.0
    run.finish()


def test_a_data_frame(tmp_path: Path) -> None:
    make_run(tmp_path, "first")
    second = make_run(tmp_path, "second", 2.0)
    frame = read_metrics(tmp_path).to_pandas()
    assert list(frame.columns) == ["run", "name", "step", "time", "value"]
    mine = frame[(frame.run == second.run_dir.name) & (frame.name == "loss")]
    assert mine.value.tolist() == [0.0, 2.0, 4.0]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first")
    with pytest.raises(KeyError, match=r"no metric 'lost' was logged; there are: eval/reward, loss"):
        read_metrics(run.run_dir)["lost"]
    with pytest.raises(BundleError, match="is not a run directory, and holds none"):
        read_metrics(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="is not a run directory, and holds none"):
        read_metrics(str(tmp_path / "x*"))
