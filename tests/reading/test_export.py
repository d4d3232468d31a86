"""``rl-logging export`` and ``tail``: each format read back with its own reader."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from rl_logging import ExperimentLogger
from rl_logging.cli import main
from tests.support import tensorboard_file

POINTS = [(0, 0.0), (10, 0.5), (20, 1.0)]


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    with ExperimentLogger(None, name="a run", dir=tmp_path / "runs", delivery="offline", sinks={}, quiet=True) as run:
        for step, value in POINTS:
            run.log_metrics({"loss": value, "reward": -value}, step=step)
    return run.run_dir


def test_csv(run_dir: Path, tmp_path: Path) -> None:
    done = cli("export", run_dir, "-o", tmp_path / "out.csv")
    assert done.exit_code == 0, done.output
    assert "6 points of 2 metrics and 1 runs" in done.output
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    loss = [(int(row["step"]), float(row["value"])) for row in rows if row["name"] == "loss"]
    assert loss == POINTS
    assert {row["run"] for row in rows} == {run_dir.name}


def test_parquet_of_one_metric(run_dir: Path, tmp_path: Path) -> None:
    done = cli("export", run_dir.parent, "--to", "parquet", "-o", tmp_path / "out.parquet", "--metric", "lo*")
    assert done.exit_code == 0, done.output
    table = parquet.read_table(tmp_path / "out.parquet").to_pydict()
    assert set(table["name"]) == {"loss"}
    assert list(zip(table["step"], table["value"], strict=True)) == POINTS


def test_tensorboard(run_dir: Path, tmp_path: Path) -> None:
    done = cli("export", run_dir, "--to", "tensorboard", "-o", tmp_path / "tb")
    assert done.exit_code == 0, done.output
    assert tensorboard_file.scalars(tmp_path / "tb" / run_dir.name)["loss"] == POINTS
    again = cli("export", run_dir, "--to", "tensorboard", "-o", tmp_path / "tb")
    assert again.exit_code == 1
    assert "has files in it" in again.output


def test_nothing_to_export_is_an_error(run_dir: Path, tmp_path: Path) -> None:
    done = cli("export", run_dir, "--metric", "nothing", "-o", tmp_path / "out.csv")
    assert done.exit_code == 1
    assert "no such metric" in done.output
    assert not (tmp_path / "out.csv").exists()


def test_tail_shows_the_last_records(run_dir: Path) -> None:
    done = cli("tail", run_dir, "-n", "2", "--metric", "loss")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[1:] for line in lines] == [["10", "loss=0.5"], ["20", "loss=1"]]
    assert "[end] finished" in cli("tail", run_dir.parent, "--no-follow").stdout


def test_tail_follows_a_run_to_its_end(tmp_path: Path) -> None:
    run = ExperimentLogger(None, dir=tmp_path, delivery="offline", sinks={}, quiet=True)
    run.log_metrics({"loss": 1.0}, step=1)
    command = [sys.executable, "-m", "rl_logging", "tail", str(run.run_dir), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        metrics = (told["body"] for told in map(json.loads, process.stdout) if told["kind"] == "metrics")
        assert next(metrics) == {"loss": 1.0}
        run.log_metrics({"loss": 2.0}, step=2)
        assert next(metrics) == {"loss": 2.0}
        run.finish()
        rest = list(map(json.loads, process.stdout))
        assert rest[-1]["body"] == {"status": "finished"}
    assert process.returncode == 0
