"""``rl-logging sync`` of several runs, to stores they were not configured for, and of runs that go on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import destinations
from rl_logging.bundle.owing import unfinished
from tests.support import wandb_file
from tests.support.mlflow_database import database
from tests.support.processes import start_script, with_root_on_path
from tests.test_cli import POINTS, cli, make_run, rows, stored_points

FOLLOWED = """
import sys
from rl_logging import ExperimentLogger

config = {"mlflow": {"tracking_uri": sys.argv[1]}}
with ExperimentLogger(config, name="followed", dir="runs", delivery="offline", quiet=True) as logger:
    logger.log_metrics({"x": 1.0}, step=1)
    print(logger.run_dir, flush=True)
    sys.stdin.readline()
    logger.log_metrics({"x": 2.0}, step=2)
"""

SLACK = """
import pathlib
from rl_logging.testing import FileSink

pathlib.Path("imported").touch()

def make(name, context, options):
    return FileSink(context, pathlib.Path(options["folder"]))
"""


def sqlite(path: Path) -> str:
    return f"sqlite:///{path}"


def points(uri: str, name: str) -> list[list[tuple[int, float]]]:
    """Returns the points of the metric `name` in each run of the store."""
    client = MlflowClient(uri)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    histories = [client.get_metric_history(run.info.run_id, name) for run in runs]
    return [[(point.step, point.value) for point in history] for history in histories]


def test_many_runs_at_once(tmp_path: Path) -> None:
    uri = database(tmp_path / "many.db")
    for number in range(5):
        make_run(tmp_path, f"run {number}", mlflow={"tracking_uri": uri})
    done = cli("sync", "--jobs", 3, tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert points(uri, "x") == [POINTS] * 5
    assert done.stdout.count("23 delivered") == 5


def test_a_run_that_cannot_be_locked_is_told_and_the_others_are_delivered(tmp_path: Path) -> None:
    sinks = {"file": {"factory": "rl_logging.testing.files:make", "path": str(tmp_path / "out.jsonl")}}
    blocked = make_run(tmp_path, "blocked", rl_logging={"quiet": True, "sinks": sinks})
    (entry,) = destinations(Bundle(blocked))
    (blocked / "sinks" / f"{entry.key}.lock").mkdir(parents=True)  # as in a directory that only its owner may write
    free = make_run(tmp_path, "free", rl_logging={"quiet": True, "sinks": sinks})
    done = cli("sync", "--trust", tmp_path / "runs")
    assert done.exit_code == 1
    assert f"{blocked.name}: cannot be delivered: {blocked / 'sinks' / entry.key}.lock cannot be locked" in done.stdout
    assert f"{free.name} → file: 23 delivered" in done.stdout
    assert unfinished(tmp_path / "runs", most=5, but=tmp_path) == [], "who cannot deliver it is not asked to"


def test_a_run_to_which_no_store_can_be_added_is_told_and_the_others_are_delivered(tmp_path: Path) -> None:
    blocked, free = (make_run(tmp_path, name, mlflow=None) for name in ("blocked", "free"))
    lock = blocked / "sinks" / ".added.json.lock"
    lock.mkdir(parents=True)  # as in a directory that only its owner may write
    uri = database(tmp_path / "new.db")
    done = cli("sync", "--to", "mlflow", "--tracking-uri", uri, tmp_path / "runs")
    assert done.exit_code == 1
    assert f"{blocked.name}: cannot be delivered: {lock} cannot be locked (Is a directory), " in done.stdout
    assert f"{free.name} → mlflow: 23 delivered" in done.stdout
    assert stored_points(uri) == POINTS


@pytest.mark.parametrize("logged", [0, 2])
def test_a_live_run_that_cannot_be_locked_is_told_and_not_followed(tmp_path: Path, logged: int) -> None:
    sinks = {"file": {"factory": "rl_logging.testing.files:make", "path": str(tmp_path / "out.jsonl")}}
    with ExperimentLogger(sinks=sinks, dir=tmp_path, delivery="offline", quiet=True) as live:
        for step in range(logged):
            live.log_metrics({"x": 1.0}, step=step)
        (entry,) = destinations(Bundle(live.run_dir))
        lock = live.run_dir / "sinks" / f"{entry.key}.lock"
        lock.mkdir(parents=True)  # as in a directory that only its owner may write
        done = cli("sync", "--trust", "--watch", live.run_dir)
    assert done.exit_code == 1
    told = f"{live.run_dir.name}: cannot be delivered: {lock} cannot be locked (Is a directory), "
    assert done.stdout.count(told) == 1
    assert "deliver a copy of it" in done.stdout
    assert "defect" not in done.output


def test_to_a_store_the_run_was_not_configured_for(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, wandb={"mode": "offline", "dir": str(tmp_path)})
    other = database(tmp_path / "other.db")
    to_other = ("sync", "--to", "mlflow", "--tracking-uri", other, "--experiment", "elsewhere")
    planned = cli(*to_other, "--dry-run", run_dir)
    assert planned.exit_code == 1
    assert [entry.name for entry in destinations(Bundle(run_dir))] == ["wandb"], "a dry run adds nothing"

    for _ in range(2):
        done = cli(*to_other, run_dir)
        assert done.exit_code == 0, done.output
        assert stored_points(other) == POINTS
    assert MlflowClient(other).get_experiment_by_name("elsewhere") is not None

    told = rows(run_dir)
    assert told["mlflow"]["pending"] == 0
    assert told["wandb"]["delivered"] == 0
    assert cli("sync", run_dir).exit_code == 0
    assert wandb_file.read(tmp_path).series("x") == POINTS


def test_to_two_stores_of_one_kind_which_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = make_run(tmp_path, mlflow={"tracking_uri": sqlite(tmp_path / "first.db")})
    done = cli("sync", "--to", "mlflow", "--set", f"mlflow.tracking_uri={sqlite(tmp_path / 'second.db')}", run_dir)
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "first.db").exists()
    first, second = (f"mlflow ({sqlite(tmp_path / name)} experiment Default)" for name in ("first.db", "second.db"))
    assert f"{run_dir.name} → {second}: 23 delivered" in done.stdout
    both = cli("sync", run_dir)
    assert both.exit_code == 0
    # A bar's name is cut to lines where the terminal is narrow, and loses nothing.
    bars = "".join(part for line in both.stdout.splitlines() for part in line.split("━")[0].split())
    monkeypatch.setenv("COLUMNS", "300")
    table = cli("status", run_dir).stdout
    for name in (first, second):
        assert f"{run_dir.name} → {name}: 23 delivered" in both.stdout
        assert bars.count("".join(name.split())) == 2, "its line and its bar"
        assert f"│ {run_dir.name} │ {name} " in table
    assert stored_points(sqlite(tmp_path / "first.db")) == stored_points(sqlite(tmp_path / "second.db")) == POINTS


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--tracking-uri", "sqlite:///x.db"), "--tracking-uri: means something with --to mlflow only"),
        (("--to", "wandb", "--set", "project"), "'project' is not SINK.KEY=VALUE"),
        (("--to", "wandb", "--set", "wandb.projct=x"), "wandb.projct"),
        (("--to", "wadb", "--set", "wadb.project=x"), "no sink is called 'wadb' (did you mean 'wandb'?)"),
    ],
)
def test_wrong_options(tmp_path: Path, arguments: tuple[str, ...], error: str) -> None:
    done = cli("sync", *arguments, make_run(tmp_path))
    assert done.exit_code in (1, 2)
    assert error in done.stderr


def test_a_moved_run_whose_first_place_is_gone(tmp_path: Path) -> None:
    uri = database(tmp_path / "moved.db")
    run_dir = make_run(tmp_path, mlflow={"tracking_uri": uri})
    moved = tmp_path / "elsewhere" / "deep"
    moved.parent.mkdir()
    shutil.move(run_dir, moved)
    assert cli("sync", moved).exit_code == 0
    assert stored_points(uri) == POINTS


def test_a_live_run_is_followed_to_its_end(tmp_path: Path) -> None:
    uri = database(tmp_path / "followed.db")
    training = start_script(FOLLOWED, tmp_path, [uri])
    assert training.stdout is not None
    run_dir = Path(training.stdout.readline().strip())
    follower = subprocess.Popen(
        [sys.executable, "-m", "rl_logging", "sync", "--watch", str(run_dir)],
        cwd=tmp_path,
        env=with_root_on_path(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        # Another sync may be first, and then has the run's lock for a while; or it finds the follower at it.
        assert cli("sync", run_dir).exit_code in (0, 1)
        training.communicate("\n", timeout=180)
        assert training.returncode == 0
        out, _ = follower.communicate(timeout=90)
    finally:
        for process in (training, follower):
            process.kill()
            process.wait()
    assert follower.returncode == 0, out
    assert points(uri, "x") == [[(1, 1.0), (2, 2.0)]]
    (run,) = MlflowClient(uri).search_runs(["0"])
    assert run.info.status == "FINISHED"


def test_what_the_runs_own_process_delivers_is_left_to_it(tmp_path: Path) -> None:
    uri = database(tmp_path / "live.db")
    config = {"mlflow": {"tracking_uri": uri}}
    with ExperimentLogger(config, dir=tmp_path / "runs", delivery="thread", quiet=True) as logger:
        logger.log_metrics({"x": 1.0}, step=1)
        assert logger.flush(60)
        logger.log_metrics({"x": 2.0}, step=2)
        done = cli("sync", logger.run_dir)
        assert done.exit_code in (0, 1), done.output
    assert cli("sync", logger.run_dir).exit_code == 0
    assert points(uri, "x") == [[(1, 1.0), (2, 2.0)]]


def test_a_module_that_a_run_names_is_imported_only_when_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slack.py").write_text(SLACK)
    monkeypatch.syspath_prepend(tmp_path)
    options = {"factory": "slack:make", "folder": str(tmp_path / "store")}
    run_dir = make_run(tmp_path, rl_logging={"sinks": {"slack": options}, "quiet": True})
    refused = cli("sync", run_dir)
    assert refused.exit_code == 1
    assert "made by slack:make: give --trust" in refused.stderr
    assert not (tmp_path / "imported").exists()
    done = cli("sync", "--trust", run_dir)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "imported").exists()
