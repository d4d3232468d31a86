"""How soon a worker hands over what is logged: in batches that had time to grow, and at once where somebody waits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rl_logging.bundle import Bundle
from rl_logging.delivery.confirming import Confirming
from rl_logging.delivery.patience import Patience
from rl_logging.journal import JournalWriter
from rl_logging.testing.memory import MemoryStore
from tests.support.bundles import fill
from tests.support.workers import finish, kept, start


class Gathering:
    """Stands in for the wait in which a batch grows: a training logs on meanwhile, and in the second somebody asks.

    What is logged while the store has a batch is more than that: the journal is never found empty.
    """

    def __init__(self, writer: JournalWriter, ask: Callable[[], None]) -> None:
        self._writer = writer
        self._ask = ask
        self.waits = 0

    def gather(self) -> None:
        self.waits += 1
        if self.waits <= 4:
            self.log(20)
        if self.waits == 2:
            self._ask()

    def log(self, count: int) -> None:
        for _ in range(count):
            self._writer.append("metrics", 0, {"loss": 0.0})


def test_while_a_training_logs_on_batches_grow_unless_somebody_waits(
    bundle: Bundle, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = fill(bundle, 3, end=None)
    asked: list[None] = []
    confirm = Confirming.confirm

    def confirm_and_log(self: Confirming) -> None:
        confirm(self)
        if asked and gathering.waits < 4:
            gathering.log(1)

    def ask() -> None:
        asked.append(None)
        worker.wake()

    gathering = Gathering(writer, ask)
    monkeypatch.setattr(Patience, "gather", lambda *_: gathering.gather())
    monkeypatch.setattr(Confirming, "confirm", confirm_and_log)
    worker, _ = start(bundle, store)
    assert store.wait_for(lambda it: bool(it.runs) and len(it.run().records) >= 80)
    writer.append("end", None, {"status": "finished"})
    worker.wake()
    finish(worker)
    # Whoever asked was served with the third; from then on batches grow again.
    assert [len(batch) for batch in store.run().batches][:5] == [3, 20, 20, 21, 21]


@pytest.fixture
def seldom_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the state kept and told for nobody but who waits."""
    for name in ("SAVE_EVERY_S", "IDLE_SAVE_S"):
        monkeypatch.setattr(f"rl_logging.delivery.book.{name}", 1000.0)


@pytest.mark.usefixtures("seldom_saved")
def test_whoever_waits_is_told_as_soon_as_the_store_has_it(bundle: Bundle, store: MemoryStore) -> None:
    writer = fill(bundle, 3, end=None)
    worker, told = start(bundle, store)
    for last in (10, 20, 30):
        while writer.append("metrics", 0, {"loss": 0.0}) != last:
            pass
        worker.wake()
        told.wait_for_confirmed(last)
        assert kept(bundle).confirmed == last
    worker.run_is_over()
    finish(worker)


def test_whoever_waits_while_a_store_is_down_has_everything_soon_once_it_is_back(
    bundle: Bundle, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    had: list[int] = []
    monkeypatch.setattr("rl_logging.delivery.backoff.FIRST_S", 1000.0)
    monkeypatch.setattr("rl_logging.delivery.backoff.CAP_S", 1000.0)
    monkeypatch.setattr(Patience, "gather", lambda *_: had.append(len(store.run().records)))
    writer = fill(bundle, 3, end=None)
    store.fail_write()
    worker, told = start(bundle, store)
    told.wait_for_phase("backoff")
    while writer.append("metrics", 0, {"loss": 0.0}) != 23:
        pass
    worker.wake()
    told.wait_for_confirmed(23)
    worker.run_is_over()
    finish(worker)
    assert set(had) <= {23}


@pytest.mark.usefixtures("seldom_saved")
def test_whoever_asks_again_before_a_slow_store_has_answered_is_answered_too(
    bundle: Bundle, store: MemoryStore
) -> None:
    writer = fill(bundle, 3, end=None)
    worker, told = start(bundle, store)
    told.wait_for_phase("delivering")
    store.hold_confirmation()
    worker.wake()
    assert writer.append("metrics", 0, {"loss": 0.0}) == 4
    assert store.wait_for(lambda it: bool(it.runs) and len(it.run().records) == 4)
    worker.wake()
    store.release_confirmation()
    told.wait_for_confirmed(4)
    worker.run_is_over()
    finish(worker)


def test_what_lies_behind_is_handed_over_without_a_pause(
    bundle: Bundle, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bundle, 500, end=None)
    waits: list[object] = []
    monkeypatch.setattr("rl_logging.journal.reader.CHUNK_BYTES", 1000)  # as where records are large
    monkeypatch.setattr(Patience, "gather", lambda *_: waits.append(None))
    worker, _ = start(bundle, store)
    assert store.wait_for(lambda it: bool(it.runs) and len(it.run().records) == 500)
    worker.run_is_over()
    finish(worker)
    assert len(store.run().batches) > 10
    assert len(waits) <= 1
