"""``rl-logging clean``: only what every destination has confirmed goes."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rl_logging import ExperimentLogger
from rl_logging.bundle import find
from rl_logging.bundle.deleting import delete, put_aside
from rl_logging.bundle.unmade import find_unmade
from rl_logging.cli import main
from tests.support.bundles import make_bundle
from tests.support.processes import run_script


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def make_run(folder: Path, name: str, delivery: str, *, offline: bool = False) -> Path:
    config = {"mlflow": {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"}}
    if offline:
        config = {"wandb": {"mode": "offline", "dir": str(folder)}}
    with ExperimentLogger(config, name=name, dir=folder / "runs", delivery=delivery, quiet=True) as run:  # type: ignore[arg-type]
        run.log_metrics({"loss": 1.0}, step=0)
    return run.run_dir


def test_only_delivered_runs_go(tmp_path: Path, mlflow_uri: str) -> None:
    delivered = make_run(tmp_path, "delivered", "thread")
    owed = make_run(tmp_path, "owed", "offline")
    referred = make_run(tmp_path, "referred", "thread", offline=True)
    running = ExperimentLogger(
        {"mlflow": {"tracking_uri": mlflow_uri}},
        name="running", dir=tmp_path / "runs", delivery="thread", quiet=True,
    )  # fmt: skip

    planned = cli("clean", "--dry-run", tmp_path / "runs")
    assert planned.exit_code == 0, planned.output
    lines = {line.split("│")[1].strip(): line for line in planned.stdout.splitlines() if line.startswith("│")}
    assert "goes" in lines[delivered.name]
    assert "records owed" in lines[owed.name]
    assert "--offline-too" in lines[referred.name]
    assert "still running" in lines[running.run_dir.name]
    assert delivered.is_dir()

    refused = CliRunner().invoke(main, ["clean", str(tmp_path / "runs")], input="n\n")
    assert refused.exit_code == 1
    assert delivered.is_dir()

    done = cli("clean", "--yes", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()) == sorted(
        path.name for path in (owed, referred, running.run_dir)
    )
    running.finish()
    assert cli("clean", "--yes", "--offline-too", referred).exit_code == 0
    assert not referred.exists()


@pytest.mark.usefixtures("mlflow_uri")
def test_a_young_run_stays(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, "young", "thread")
    done = cli("clean", "--yes", "--older-than", "1", run_dir)
    assert done.exit_code == 0
    assert "not that old" in done.stdout
    assert run_dir.is_dir()


def test_a_run_without_destination_is_the_only_copy(tmp_path: Path) -> None:
    with ExperimentLogger({"mlflow": None}, dir=tmp_path, delivery="offline", quiet=True) as run:
        run.log_metrics({"loss": 1.0})
    done = cli("clean", "--yes", tmp_path)
    assert "the only copy" in done.stdout
    assert run.run_dir.is_dir()


def test_a_run_that_cannot_be_locked_stays(tmp_path: Path) -> None:
    sinks = {"file": {"factory": "rl_logging.testing.files:make", "path": str(tmp_path / "out.jsonl")}}
    with ExperimentLogger(sinks=sinks, dir=tmp_path, delivery="thread", quiet=True) as run:
        run.log_metrics({"loss": 1.0})
    (lock,) = (run.run_dir / "sinks").glob("*.lock")
    lock.unlink()
    lock.mkdir()  # as in a directory that only its owner may write
    done = cli("clean", "--yes", tmp_path)
    assert done.exit_code == 0, done.output
    assert "stays: it cannot be written" in done.stdout


CUT_SHORT = """
import os, shutil, signal
from rl_logging.cli import main

rmtree = shutil.rmtree

def half(path):
    rmtree(path / "journal")  # as far as it got
    os.kill(os.getpid(), signal.SIGKILL)

shutil.rmtree = half
main()
"""


@pytest.mark.usefixtures("mlflow_uri")
def test_what_a_kill_in_the_middle_leaves_is_no_run_and_goes_with_the_next(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, "mine", "thread")
    killed = run_script(CUT_SHORT, tmp_path, ["clean", "--yes", "runs"])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (left,) = (path for path in run_dir.parent.iterdir() if path.is_dir())
    assert (left / "run.json").is_file()
    assert list(find(run_dir.parent)) == list(find(left)) == list(find_unmade(run_dir.parent)) == []
    assert "holds none" in cli("status", run_dir.parent).stderr

    again = make_run(tmp_path, "mine", "thread")
    planned = cli("clean", "--dry-run", "--older-than", 1, run_dir.parent).stdout
    assert f"{left.name} " in planned
    assert "goes: its deletion was cut short" in planned
    assert f"{again.name} " in cli("status", run_dir.parent).stdout
    done = cli("clean", "--yes", "--older-than", 1, run_dir.parent)
    assert done.exit_code == 0, done.output
    assert [path for path in run_dir.parent.iterdir() if path.is_dir()] == [again]


def test_a_folder_of_nothing_but_what_was_cut_short_is_cleaned(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    for path in (tmp_path, put_aside(bundle.path)):
        make_bundle(tmp_path)
        doomed = put_aside(bundle.path)  # an earlier one of that name is no hindrance
        assert cli("clean", "--yes", path).exit_code == 0
        assert not doomed.exists()


def test_two_that_delete_one_run_do_not_trip_over_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doomed = put_aside(make_bundle(tmp_path).path)
    rmtree = shutil.rmtree

    def faster(path: Path) -> None:
        monkeypatch.undo()
        rmtree(path)
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", faster)
    delete(doomed)
    assert not doomed.exists()
