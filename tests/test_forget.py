"""``rl-logging forget``: a destination that is given up is owed nothing more, until it is asked for again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import DestinationFile, destinations
from rl_logging.cli import main
from rl_logging.testing.files import FileStore
from tests.test_cli import cli


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def sinks_in(folder: Path) -> dict[str, Any]:
    """Returns a store that is there, and one that is down while ``down`` exists."""
    (folder / "down").touch()
    factory = "rl_logging.testing.files:make"
    return {
        "good": {"factory": factory, "path": str(folder / "good.jsonl")},
        "dead": {"factory": factory, "path": str(folder / "dead.jsonl"), "down_while": str(folder / "down")},
    }


def owing_run(folder: Path) -> Path:
    """Returns a run that is over, of which one store has all and the other nothing."""
    with ExperimentLogger(sinks=sinks_in(folder), dir=folder / "runs", delivery="offline", quiet=True) as logger:
        for step in range(3):
            logger.log_metrics({"loss": 1.0}, step=step)
    assert cli("sync", "--trust", "--to", "good", logger.run_dir).exit_code == 0
    return logger.run_dir


def told(run_dir: Path) -> dict[str, Any]:
    lines = cli("status", "--json", run_dir).stdout.splitlines()
    return {line["sink"]: line for line in map(json.loads, lines)}


def entry_of(run_dir: Path, sink: str) -> DestinationFile:
    bundle = Bundle(run_dir)
    return DestinationFile(bundle, next(entry for entry in destinations(bundle) if entry.name == sink))


def test_what_is_given_up_is_owed_nothing_and_can_be_taken_up_again(tmp_path: Path) -> None:
    run_dir = owing_run(tmp_path)
    assert told(run_dir)["dead"]["state"] == "owed"
    assert "records owed" in cli("clean", "--dry-run", run_dir).stdout

    planned = cli("forget", "--dry-run", "--sink", "dead", run_dir)
    assert planned.exit_code == 0, planned.output
    assert "is given up" in planned.stdout
    assert CliRunner().invoke(main, ["forget", "--sink", "dead", str(run_dir)], input="n\n").exit_code == 1
    assert told(run_dir)["dead"]["state"] == "owed"

    done = cli("forget", "--yes", "--sink", "dead", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    accepted = told(run_dir)["dead"]["accepted"]
    words = f"nothing is owed to it any more; it has 0 of {accepted} records"
    assert words in done.stdout
    dead = told(run_dir)["dead"]
    assert (dead["state"], dead["forgotten"], dead["pending"]) == ("given up", True, 0)
    assert words in cli("status", run_dir).stdout
    synced = cli("sync", "--trust", run_dir)
    assert synced.exit_code == 0, synced.output
    assert words in synced.stdout
    assert FileStore(tmp_path / "dead.jsonl").points() == []
    assert "goes" in cli("clean", "--dry-run", run_dir).stdout
    assert "it was given up before" in cli("forget", "--yes", "--sink", "dead", run_dir).stdout

    (tmp_path / "down").unlink()
    assert f"{accepted} records owed" in cli("sync", "--dry-run", "--to", "dead", run_dir).stdout
    assert told(run_dir)["dead"]["forgotten"]
    again = cli("sync", "--trust", "--to", "dead", run_dir)
    assert again.exit_code == 0, again.output
    assert FileStore(tmp_path / "dead.jsonl").points() == FileStore(tmp_path / "good.jsonl").points()
    assert (told(run_dir)["dead"]["state"], told(run_dir)["dead"]["forgotten"]) == ("finished", False)


def test_the_only_copy_stays_and_what_has_all_is_not_given_up(tmp_path: Path) -> None:
    run_dir = owing_run(tmp_path)
    assert "stays: nothing is owed to it" in cli("forget", "--yes", "--sink", "good", run_dir).stdout
    elsewhere = cli("forget", "--yes", "--sink", "dead", "--destination", "elsewhere", run_dir)
    assert "stays: it is another destination" in elsewhere.stdout
    assert not any(line["forgotten"] for line in told(run_dir).values())
    nobody = cli("forget", "--yes", "--sink", "nobody", run_dir)
    assert (nobody.exit_code, "no run there has a sink 'nobody'" in nobody.output) == (1, True)
    entry_of(run_dir, "good").forget()
    entry_of(run_dir, "dead").forget()
    assert "it is the only copy" in cli("clean", "--dry-run", run_dir).stdout


def test_a_running_delivery_stops_and_the_end_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "rl_logging")
    logger = ExperimentLogger(sinks=sinks_in(tmp_path), dir=tmp_path / "runs", delivery="thread")
    logger.log_metrics({"loss": 1.0}, step=0)
    progress = logger._last_run._delivery.progress  # type: ignore[attr-defined]

    def phases() -> dict[str, str]:
        return {state.sink: state.phase for state in progress.states.values()}

    assert progress.wait(lambda: phases()["dead"] == "backoff", 60)
    assert cli("forget", "--yes", "--sink", "dead", logger.run_dir).exit_code == 0
    logger._last_run._delivery.wake()  # type: ignore[attr-defined]
    assert progress.wait(lambda: phases()["dead"] == "refused", 60)
    logger.finish()
    assert "was given up (rl-logging forget), and gets nothing more" in caplog.text
    block = caplog.records[-1].getMessage()
    assert "nothing is owed to it any more" in block
    assert "rl-logging sync" not in block
    assert FileStore(tmp_path / "good.jsonl").points() == [("loss", 0, 1.0)]
    # A program that goes on with the run does not take it up by itself.
    with ExperimentLogger(
        sinks=sinks_in(tmp_path), dir=tmp_path / "runs", delivery="thread", resume=logger.run_dir, quiet=True
    ) as again:
        again.log_metrics({"loss": 2.0}, step=1)
    assert told(again.run_dir)["dead"]["state"] == "given up"
    assert len(FileStore(tmp_path / "good.jsonl").points()) == 2
