"""The command, on real run directories and real stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from rl_logging import ExperimentLogger, __version__, sync
from rl_logging.cli import main
from tests.support import wandb_file
from tests.support.mlflow_server import MlflowServer

POINTS = [(step, step * 0.5) for step in range(20)]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tables are as wide as their content then, whatever this terminal is.
    monkeypatch.setenv("COLUMNS", "300")


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def make_run(tmp_path: Path, name: str = "first", **config: object) -> Path:
    """Makes the run directory of a finished run that nobody has delivered yet."""
    sinks = config or {
        "mlflow": {"tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
        "wandb": {"mode": "offline", "dir": str(tmp_path)},
    }
    config = {"rl_logging": {"quiet": True}, **sinks}
    with ExperimentLogger(config, name=name, dir=tmp_path / "runs", delivery="offline") as logger:
        for step, value in POINTS:
            logger.log_metrics({"x": value}, step=step)
    return logger.run_dir


def stored_points(uri: str) -> list[tuple[int, float]]:
    client = MlflowClient(uri)
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert run.info.status == "FINISHED"
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "x")]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path / "server")
    yield server
    server.close()


def rows(path: Path) -> dict[str, dict[str, object]]:
    """Returns what ``status --json`` prints, by sink."""
    done = cli("status", "--json", path)
    assert done.exit_code == 0, done.output
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["sink"]: row for row in told}


def test_status_says_what_is_owed(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    told = rows(run_dir)
    assert set(told) == {"mlflow", "wandb"}
    for row in told.values():
        assert row["run_dir"] == str(run_dir)
        assert row["over"] is True
        assert row["delivered"] == 0
        assert row["pending"] == row["accepted"] >= len(POINTS) + 1

    table = cli("status", tmp_path / "runs")
    assert table.exit_code == 0
    lines = [line for line in table.stdout.splitlines() if run_dir.name in line and line.startswith("│")]
    assert len(lines) == 2
    assert all("owed" in line for line in lines)


def test_sync_delivers_once_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    planned = cli("sync", "--dry-run", run_dir)
    assert planned.exit_code == 1
    assert "mlflow: " in planned.stdout
    assert not (tmp_path / "mlflow.db").exists(), "a dry run delivers nothing"

    done = cli("sync", run_dir)
    assert done.exit_code == 0, done.output
    assert f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db" in done.stdout
    assert "wandb sync" in done.stdout
    assert stored_points(f"sqlite:///{tmp_path}/mlflow.db") == POINTS
    assert wandb_file.read(tmp_path).series("x") == POINTS
    assert {row["pending"] for row in rows(run_dir).values()} == {0}
    assert cli("status", run_dir).stdout.count("finished") == 2

    nothing = cli("sync", "--dry-run", run_dir)
    assert nothing.exit_code == 0
    assert nothing.stdout.count("nothing owed") == 2
    again = cli("sync", run_dir)
    assert again.exit_code == 0, again.output
    assert stored_points(f"sqlite:///{tmp_path}/mlflow.db") == POINTS
    assert len(wandb_file.offline_directories(tmp_path)) == 1


def test_sync_to_one_sink_leaves_the_other_owed(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    done = cli("sync", "--to", "wandb", run_dir)
    assert done.exit_code == 0, done.output
    told = rows(run_dir)
    assert told["wandb"]["pending"] == 0
    assert told["mlflow"]["delivered"] == 0
    assert cli("sync", "--dry-run", run_dir).exit_code == 1


def test_sync_takes_a_folder_of_runs(tmp_path: Path) -> None:
    for name in ("first", "second"):
        make_run(tmp_path, name, wandb={"mode": "offline", "dir": str(tmp_path)})
    done = cli("sync", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert len(wandb_file.offline_directories(tmp_path)) == 2


def test_sync_fails_while_the_store_is_down_and_works_once_it_is_up(
    tmp_path: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = make_run(tmp_path, mlflow={"tracking_uri": server.uri})
    monkeypatch.setattr(sync, "PATIENCE_S", 1.0)
    failed = cli("sync", run_dir)
    assert failed.exit_code == 1
    assert f"still owed to {server.uri}" in failed.stdout
    assert rows(run_dir)["mlflow"]["last_error"]

    server.start()
    monkeypatch.undo()
    done = cli("sync", run_dir)
    assert done.exit_code == 0, done.output
    assert stored_points(server.uri) == POINTS
    assert rows(run_dir)["mlflow"]["last_error"] is None


@pytest.mark.parametrize("command", ["status", "sync"])
def test_wrong_paths(tmp_path: Path, command: str) -> None:
    missing = cli(command, tmp_path / "missing")
    assert missing.exit_code == 2
    assert "missing" in missing.stderr

    empty = tmp_path / "empty"
    empty.mkdir()
    none = cli(command, empty)
    assert none.exit_code == 1
    assert none.stderr.strip() == f"Error: {empty} is not a run directory, and holds none"

    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "run.json").write_text("{")
    broken = cli(command, damaged)
    assert broken.exit_code == 1
    assert "run.json is damaged" in broken.stderr


def test_an_unknown_sink_is_named_with_those_there_are(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    done = cli("sync", "--to", "wadb", run_dir)
    assert done.exit_code == 1
    assert "has no sink 'wadb': it has mlflow, wandb" in done.stderr


def test_sinks_lists_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    done = cli("sinks")
    assert done.exit_code == 0, done.output
    for name in ("mlflow", "wandb"):
        (line,) = [line for line in done.stdout.splitlines() if f" {name} " in line]
        assert "ready" in line
        assert f"rl_logging_{name}" in line


def test_version() -> None:
    assert cli("--version").stdout.strip().endswith(__version__)


def test_what_looks_like_markup_is_shown_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_logging.plugins.SinkPlugin.check_options", lambda *_: ["pip install 'rl-logging[mlflow]'"])
    monkeypatch.setenv("COLUMNS", "200")
    assert "rl-logging[mlflow]" in CliRunner().invoke(main, ["sinks"]).output


def test_what_the_terminal_cannot_show_is_spelt_out(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "läufe")
    done = CliRunner(charset="ascii").invoke(main, ["status", str(run_dir)])
    assert done.exit_code == 0
    assert "l\\xe4ufe" in done.stdout


def test_a_damaged_run_in_a_folder_keeps_no_other_from_its_store(tmp_path: Path) -> None:
    sinks = {"file": {"factory": "rl_logging.testing.files:make", "path": str(tmp_path / "out.jsonl")}}
    whole = make_run(tmp_path, "whole", rl_logging={"quiet": True, "sinks": sinks})
    damaged = tmp_path / "runs" / "damaged"
    damaged.mkdir()
    (damaged / "run.json").write_text("{")
    for expected in ("owed", "finished"):
        listed = cli("status", tmp_path / "runs")
        assert (listed.exit_code, whole.name in listed.stdout, expected in listed.stdout) == (0, True, True)
        assert f"passed over: {damaged / 'run.json'} is damaged" in listed.stderr
        done = cli("sync", "--trust", tmp_path / "runs")
        assert done.exit_code == 1, "not every record is known to be where it belongs"
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) >= len(POINTS)
