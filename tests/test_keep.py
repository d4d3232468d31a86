"""`rl_logging.keep: undelivered`: a journal that does not grow with what every store has."""

from __future__ import annotations

import resource
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle, resuming, trimming
from rl_logging.bundle.destination import DestinationFile
from rl_logging.bundle.owing import owing
from rl_logging.bundle.rewinds import rewinds
from rl_logging.bundle.trimming import trim
from rl_logging.delivery import trimmer
from rl_logging.journal import JournalReader, JournalWriter, read_trimmed, segments
from rl_logging.testing.memory import MemoryStore
from tests.support.bundles import make_bundle, make_entry
from tests.test_cli import cli

SEGMENT_BYTES = 2000


@pytest.fixture(autouse=True)
def _small_and_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_logging.run.opening.SEGMENT_BYTES", SEGMENT_BYTES)
    monkeypatch.setattr(trimmer, "EVERY_S", 0.0)


def logger_in(tmp_path: Path, store: str | None, **keywords: Any) -> ExperimentLogger:
    sinks = {} if store is None else {"memory": {"factory": "rl_logging.testing.memory:make", "store": store}}
    config = {"rl_logging": {"keep": "undelivered"}}
    keywords = {"delivery": "thread", "id": "one", "resume": "auto", "sinks": sinks, **keywords}
    return ExperimentLogger(config, dir=tmp_path / "runs", quiet=True, **keywords)


def test_segments_go_while_the_run_goes_on_and_the_last_at_its_end(tmp_path: Path) -> None:
    with logger_in(tmp_path, "keep-live") as logger:
        journal = Bundle(logger.run_dir).journal
        for step in range(300):
            logger.log_metrics({"loss": step / 2}, step=step)
            if step % 50 == 49:
                assert logger.flush(60)
        logger.log_image("frame", np.zeros((4, 4, 3), np.uint8), step=300)
        assert logger.flush(60)
        assert len(segments(journal)) <= 2
        trimmed = read_trimmed(journal)
        assert trimmed is not None
        assert trimmed.step > 200
        (image,) = (logger.run_dir / "media").rglob("*.png")
    store = MemoryStore.named("keep-live")
    assert [point.step for point in store.runs["one"].records.values() if point.kind == "metrics"] == [*range(300)]
    assert segments(journal) == []
    assert not image.exists()
    (debt,) = owing(Bundle(logger.run_dir))
    assert (debt.accepted, debt.anything) == (logger.accepted, False)
    assert cli("sync", logger.run_dir).exit_code == 0


def test_a_run_goes_on_above_what_was_deleted(tmp_path: Path) -> None:
    with logger_in(tmp_path, "keep-resume") as logger:
        logger.log_metrics({"loss": 1.0}, step=7)
    first = logger.accepted
    with logger_in(tmp_path, "keep-resume") as logger:
        assert logger.resumed
        assert logger.step == 7
        logger.log_metrics({"loss": 2.0})
    assert logger.accepted > first
    assert MemoryStore.named("keep-resume").runs["one"].points == [("loss", 7, 1.0), ("loss", 8, 2.0)]


def test_another_store_is_told_that_the_journal_was_trimmed(tmp_path: Path) -> None:
    with logger_in(tmp_path, "keep-sync") as logger:
        logger.log_metrics({"loss": 1.0}, step=7)
    to = ("--to", "mlflow", "--tracking-uri", f"sqlite:///{tmp_path}/late.db")
    done = cli("sync", *to, logger.run_dir)
    assert done.exit_code == 1
    assert "the journal was trimmed (rl_logging.keep: undelivered)" in done.stdout
    assert not (tmp_path / "late.db").exists()


def test_a_destination_that_comes_late_gets_what_is_logged_from_then_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with logger_in(tmp_path, "keep-first") as logger:
        for step in range(100):
            logger.log_metrics({"loss": 1.0}, step=step)
    first = logger.accepted
    factory = {"factory": "rl_logging.testing.memory:make"}
    both = {"memory": {**factory, "store": "keep-first"}, "late": {**factory, "store": "keep-late"}}
    with logger_in(tmp_path, None, sinks=both) as logger:
        for step in range(100, 400):
            logger.log_metrics({"loss": 2.0}, step=step)
            if step % 100 == 99:
                assert logger.flush(60)
        pause = threading.Event()
        looks = 0
        while len(segments(Bundle(logger.run_dir).journal)) > 2:  # each store's worker does it when it has a moment
            assert (looks := looks + 1) < 1000, "the late one stops the trimming"
            pause.wait(0.02)
    assert f"late: {first:,} records (1 to {first:,}) were deleted of the journal" in caplog.text
    assert [step for _, step, _ in MemoryStore.named("keep-late").runs["one"].points] == [*range(100, 400)]
    assert [step for _, step, _ in MemoryStore.named("keep-first").runs["one"].points] == [*range(400)]
    assert segments(Bundle(logger.run_dir).journal) == []
    status = logger.status()["late"]
    assert (status.lacking, status.pending, status.delivered) == (first, 0, logger.accepted - first)
    assert f"lacks {first} records" in cli("status", logger.run_dir).stdout
    # Nothing is owed, and yet not every record is in every store.
    assert cli("sync", logger.run_dir).exit_code == 3
    assert cli("sync", "--to", "memory", logger.run_dir).exit_code == 0


def test_a_destination_that_was_given_up_holds_nothing_back(tmp_path: Path) -> None:
    entries = [make_entry("memory", "rl_logging.testing.memory:make", store=f"keep-{number}") for number in range(2)]
    entries[1] = msgspec.structs.replace(entries[1], name="dead", key="dead-1")
    bundle = make_bundle(tmp_path, *entries)
    bundle.manifest.settings["keep"] = "undelivered"
    writer = JournalWriter(bundle.journal, "abcd1234", segment_bytes=SEGMENT_BYTES)
    for step in range(100):
        writer.append("metrics", step, {"loss": 1.0})
    healthy, dead = (DestinationFile(bundle, entry) for entry in entries)
    healthy.save(msgspec.structs.replace(healthy.load(), confirmed=100))
    assert trim(bundle) == 0
    dead.forget()
    assert trim(bundle) > 0
    trimmed = read_trimmed(bundle.journal)
    assert trimmed is not None
    for step in range(100, 200):
        writer.append("metrics", step, {"loss": 1.0})
    healthy.forget()
    assert trim(bundle) == 0, "nobody has the rest"
    # Taken up again, it is waited for.
    healthy.take_up()
    dead.take_up()
    healthy.save(msgspec.structs.replace(healthy.load(), confirmed=200))
    assert trim(bundle) == 0


def test_going_back_where_the_beginning_is_gone_stays_in_the_same_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in range(2):
        with logger_in(tmp_path, "keep-back", resume_step=4) as logger:
            for step in range(5 * part, 10):
                logger.log_metrics({"loss": float(part)}, step=step)
    assert "rl_logging.keep has deleted what a new run there would begin with" in caplog.text
    assert [step for _, step, _ in MemoryStore.named("keep-back").runs["one"].points] == [*range(10), *range(5, 10)]
    assert list(MemoryStore.named("keep-back").runs) == ["one"]


def test_going_back_again_to_where_it_is_changes_nothing(tmp_path: Path) -> None:
    for back in (None, 4, 4):
        with logger_in(tmp_path, "keep-again", resume_step=back) as logger:
            assert logger.step == (0 if back is None else 4)
            for step in range(10) if back is None else ():
                logger.log_metrics({"loss": 1.0}, step=step)
    assert len(rewinds(Bundle(logger.run_dir))) == 1


def test_nothing_is_deleted_while_a_run_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = make_entry("memory", "rl_logging.testing.memory:make", store="keep-race")
    bundle = make_bundle(tmp_path, entry)
    bundle.manifest.settings["keep"] = "undelivered"
    writer = JournalWriter(bundle.journal, "abcd1234", segment_bytes=SEGMENT_BYTES)
    for step in range(100):
        writer.append("metrics", step, {"loss": 1.0})
    state = DestinationFile(bundle, entry).load()
    state.confirmed = 100
    DestinationFile(bundle, entry).save(state)

    def read_and_trim(journal: Path) -> Any:
        found = read_trimmed(journal)
        trim(bundle)  # an earlier part's delivery
        return found

    monkeypatch.setattr(resuming, "read_trimmed", read_and_trim)
    rewind = resuming.go_back(bundle, 50, 100)
    assert rewind is not None
    assert rewind.branches
    assert trim(bundle) == 0
    assert len(JournalReader(bundle.journal).read(1000)) == 100


def test_nothing_goes_that_a_destination_has_not(tmp_path: Path) -> None:
    entries = [make_entry("memory", "rl_logging.testing.memory:make", store=f"keep-{number}") for number in range(2)]
    bundle = make_bundle(tmp_path, *entries[:1])
    writer = JournalWriter(bundle.journal, "abcd1234", segment_bytes=SEGMENT_BYTES)
    for step in range(300):
        writer.append("metrics", step, {"loss": 1.0})
    assert trim(bundle) == 0, "not asked for"
    bundle.manifest.settings["keep"] = "undelivered"
    assert trim(bundle) == 0, "nothing is confirmed"
    assert len(JournalReader(bundle.journal).read(1000)) == 300


def test_what_a_full_disk_tore_was_never_accepted_and_holds_nothing_back(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with logger_in(tmp_path, "keep-full", delivery="offline") as logger:
        logger.log_metrics({"loss": 0.0}, step=0)
        (segment,) = segments(Bundle(logger.run_dir).journal)
        try:
            # The kernel takes a part of the next frame then, as of a disk that is full.
            resource.setrlimit(resource.RLIMIT_FSIZE, (segment.stat().st_size + 9, before[1]))
            logger.log_metrics({"loss": 1.0}, step=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(segments(Bundle(logger.run_dir).journal)) == 2
    assert cli("sync", "--trust", logger.run_dir).exit_code == 0
    assert MemoryStore.named("keep-full").runs["one"].points == [("loss", 0, 0.0), ("loss", 1, 1.0)]
    (debt,) = owing(Bundle(logger.run_dir))
    assert debt.state.damaged == []
    assert segments(Bundle(logger.run_dir).journal) == [], "every destination has it"
    assert "deleted" in cli("clean", "--yes", logger.run_dir).stdout
    assert not logger.run_dir.exists()


def test_a_run_without_destinations_keeps_all(tmp_path: Path) -> None:
    with logger_in(tmp_path, None, delivery="offline") as logger:
        for step in range(300):
            logger.log_metrics({"loss": 1.0}, step=step)
    assert len(segments(Bundle(logger.run_dir).journal)) >= 3


def test_a_kill_between_the_note_and_the_deletion_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(trimming, "_unlink", lambda *_: None)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with logger_in(tmp_path, "keep-kill") as logger:
            for step in range(100):
                logger.log_metrics({"loss": 1.0}, step=step)
    bundle = Bundle(logger.run_dir)
    reader = JournalReader(bundle.journal)
    assert len(reader.read(1000, final=True)) == logger.accepted
    assert not reader.damage
    assert trim(bundle, over=True) >= 2
    assert segments(bundle.journal) == []
