"""A lease that another machine has taken over: who had it writes and delivers nothing more, and says so once."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import filelock
import msgspec
import pytest

from rl_logging import ExperimentLogger, leases
from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import DestinationFile
from rl_logging.delivery import DestinationWorker
from rl_logging.journal import JournalReader
from rl_logging.testing.memory import MemoryStore
from tests.support.bundles import fill, make_bundle, make_entry


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    made = MemoryStore()
    yield made
    made.restore()


@pytest.fixture(autouse=True)
def _leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file locks in this process, and fast heartbeats."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.01)


def take_over(lease: Path) -> None:
    """Does what a process on another machine does that finds the lease silent."""
    holder = msgspec.json.decode(lease.read_bytes())
    other = lease.with_name("other")
    other.write_bytes(msgspec.json.encode({**holder, "host": f"not {socket.gethostname()}", "token": "theirs"}))
    os.replace(other, lease)


def test_a_worker_leaves_delivery_to_who_has_taken_it_over(tmp_path: Path, store: MemoryStore) -> None:
    entry = make_entry()
    bundle = make_bundle(tmp_path, entry)
    fill(bundle, 20)
    warnings: list[str] = []
    store.hold_confirmation()
    worker = DestinationWorker(
        bundle,
        entry,
        lambda context: store.make("memory", context, {}),
        live=True,
        tell=lambda state: None,
        warn=warnings.append,
        patience_s=20,
    )
    worker.start()
    assert store.wait_for(lambda it: bool(it.runs) and it.run().handed == list(range(1, 21)))
    (lease,) = bundle.sinks.glob("*.lease")
    take_over(lease)
    assert store.wait_for(lambda it: bool(it.run().closes))
    # What the other one notes stays.
    file = DestinationFile(bundle, entry)
    theirs = msgspec.structs.replace(file.load(), confirmed=10, delivered=10)
    file.save(theirs)
    store.release_confirmation()
    assert file.load() == theirs
    assert worker.is_alive()
    # It stands by, and goes on when the other one is done.
    lease.unlink()
    worker.run_is_over()
    worker.join(60)
    assert not worker.is_alive()
    assert len([text for text in warnings if "taken over" in text]) == 1
    assert file.load().confirmed == 21
    assert store.run().handed == [*range(1, 21), *range(11, 21)]


def test_a_logger_whose_run_was_taken_over_writes_nothing_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = ExperimentLogger(dir=tmp_path, delivery="offline", sinks=False, quiet=True)
    logger.log_metrics({"a": 1.0})
    run = logger._last_run
    taken = threading.Event()
    told = run._claim._lock.on_lost  # type: ignore[attr-defined]

    def notice() -> None:
        told()
        taken.set()

    run._claim.on_lost(notice)  # type: ignore[attr-defined]
    take_over(logger.run_dir / "writer.lease")
    assert taken.wait(60)
    before = [path.read_bytes() for path in sorted((logger.run_dir / "journal").iterdir())]
    writer = (logger.run_dir / "writer.json").read_bytes()
    logger.log_metrics({"a": 2.0})
    logger.log_metrics({"a": 3.0})
    logger.finish()
    assert [path.read_bytes() for path in sorted((logger.run_dir / "journal").iterdir())] == before
    assert (logger.run_dir / "writer.json").read_bytes() == writer
    assert caplog.text.count("what is logged is not kept: another process has taken over") == 1
    kinds = [record.kind for record in JournalReader(Bundle(logger.run_dir).journal).read(100, final=True)]
    assert kinds.count("metrics") == 1
    assert "end" not in kinds
