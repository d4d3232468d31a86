from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle, write_atomically
from rl_logging.bundle.destination import DestinationFile
from rl_logging.bundle.owing import owing, unfinished
from rl_logging.settings.sections import SettingsError
from tests.support.bundles import fill, make_bundle, make_entry

SINKS = {"file": {"factory": "rl_logging.testing.files:make", "path": "out.jsonl"}}


def test_the_next_logger_names_earlier_runs_that_still_owe(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with ExperimentLogger(sinks=SINKS, delivery="offline", dir=tmp_path / "runs", name="first", quiet=True) as first:
        first.log_metrics({"a": 1})
    with ExperimentLogger(sinks=[], dir=tmp_path / "runs", name="second", quiet=True):
        pass
    (told,) = [record.getMessage() for record in caplog.records if "still owe" in record.getMessage()]
    assert first.run_dir.name in told
    assert "rl-logging sync" in told


def test_what_is_being_delivered_or_owes_nothing_is_not_named(tmp_path: Path) -> None:
    entry = make_entry("file", SINKS["file"]["factory"], path=str(tmp_path / "out.jsonl"))
    bundle = make_bundle(tmp_path / "runs", entry)
    fill(bundle, 3)
    assert unfinished(tmp_path / "runs", most=5, but=tmp_path) == [bundle.path]
    with DestinationFile(bundle, entry).lock():
        assert unfinished(tmp_path / "runs", most=5, but=tmp_path) == []


def test_a_finished_runs_journal_need_not_be_read_to_know_what_it_owes(tmp_path: Path) -> None:
    with ExperimentLogger(sinks=SINKS, delivery="offline", dir=tmp_path / "runs", quiet=True) as logger:
        logger.log_metrics({"a": 1})
    (before,) = owing(Bundle(logger.run_dir))
    for segment in Bundle(logger.run_dir).journal.iterdir():
        segment.unlink()
    (after,) = owing(Bundle(logger.run_dir))
    assert before.accepted == after.accepted == logger.accepted == 3
    assert after.over


def test_a_run_is_found_with_its_writer_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(path: Path, data: bytes) -> None:
        write_atomically(path, data)
        seen.append(unfinished(tmp_path, most=5, but=tmp_path))

    monkeypatch.setattr("rl_logging.bundle.directory.write_atomically", look)
    with ExperimentLogger(sinks=SINKS, delivery="offline", dir=tmp_path, quiet=True):
        pass
    assert seen == [[]]


@pytest.mark.parametrize("part", ["claim", "directory"])
def test_a_run_that_could_not_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(f"rl_logging.bundle.{part}.write_atomically", full)
        with pytest.raises(SettingsError, match="no space left"):
            ExperimentLogger(sinks=[], dir=tmp_path / "runs", id="abc", quiet=True)
    assert os.listdir(tmp_path / "runs") == [".gitignore"]
    with ExperimentLogger(sinks=[], dir=tmp_path / "runs", id="abc", quiet=True) as logger:
        assert logger.run_dir.name.endswith("-abc")
