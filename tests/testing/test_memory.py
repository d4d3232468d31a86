"""The in-memory store's faults and looks, beyond what the contract suite asks of it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rl_logging.records import Metrics
from rl_logging.sinks import Ledger, RejectedError, SinkContext, TransientError
from rl_logging.testing import MemoryLedger, MemorySink, MemoryStore, sample_context
from rl_logging.testing.memory import make
from rl_logging.testing.samples import sample_metrics


@pytest.fixture
def context(tmp_path: Path) -> SinkContext:
    return sample_context(tmp_path / "run")


@pytest.fixture
def sink(context: SinkContext, store: MemoryStore) -> MemorySink:
    sink = MemorySink(context, store)
    sink.open(None)
    return sink


def test_opening_fails_as_often_as_asked(context: SinkContext, store: MemoryStore) -> None:
    store.fail_open(2)
    store.fail_open(1, RejectedError("never"))
    sink = MemorySink(context, store)
    for error in (TransientError, TransientError, RejectedError):
        with pytest.raises(error):
            sink.open(None)
    assert sink.open(None)["id"] == context.run_id
    assert store.run().opens == [None] * 4


def test_writing_fails_with_a_part_stored(sink: MemorySink, store: MemoryStore) -> None:
    records = sample_metrics(5)
    store.fail_write(1, ConnectionError("reset"), after=2)
    with pytest.raises(ConnectionError):
        sink.write(records)
    assert list(store.run().records) == [1, 2]
    sink.write(records)
    assert list(store.run().records) == [1, 2, 3, 4, 5]
    assert store.run().handed == [1, 2, 3, 4, 5] * 2
    assert store.run().batches == [(1, 2, 3, 4, 5)] * 2


def test_confirmation_is_held_and_released(sink: MemorySink, store: MemoryStore) -> None:
    sink.write(sample_metrics(2))
    store.hold_confirmation()
    sink.write(sample_metrics(2, first_seq=3))
    assert sink.confirmed() == 2
    store.release_confirmation()
    assert sink.confirmed() == 4


def test_a_run_opened_while_confirmation_is_held_confirms_nothing(context: SinkContext, store: MemoryStore) -> None:
    store.hold_confirmation()
    sink = MemorySink(context, store)
    sink.open(None)
    sink.write(sample_metrics(2))
    assert sink.confirmed() == 0


def test_writes_are_held_and_released(sink: MemorySink, store: MemoryStore) -> None:
    store.hold_writes()
    writer = threading.Thread(target=sink.write, args=(sample_metrics(1),), name="writer")
    writer.start()
    assert store.wait_for(lambda store: store.blocked == 1)
    assert store.run().records == {}
    store.release_writes()
    writer.join(60)
    assert not writer.is_alive()
    assert store.blocked == 0
    assert "writer" in store.run().threads


def test_rejection_names_the_records(sink: MemorySink, store: MemoryStore) -> None:
    store.reject(lambda record: record.seq == 2, "no twos")
    with pytest.raises(RejectedError, match="no twos") as caught:
        sink.write(sample_metrics(3))
    assert [record.seq for record in caught.value.records] == [2]
    assert list(store.run().records) == [1, 3]
    assert sink.confirmed() == 3


def test_waiting_sees_what_another_thread_writes(sink: MemorySink, store: MemoryStore) -> None:
    writer = threading.Thread(target=lambda: [sink.write([record]) for record in sample_metrics(50)])
    writer.start()
    assert store.wait_for(lambda store: len(store.run().records) == 50)
    writer.join(60)
    assert not store.wait_for(lambda store: len(store.run().records) > 50, timeout_s=0)


def test_a_named_store_is_the_same_for_all(context: SinkContext) -> None:
    try:
        sink = make("mine", context, {"store": "shared by name"})
        sink.open(None)
        sink.write([Metrics(seq=1, time=0.0, step=1, values={"loss": 0.5})])
        assert MemoryStore.named("shared by name").run().points == [("loss", 1, 0.5)]
    finally:
        MemoryStore.forget("shared by name")
    assert MemoryStore.named("shared by name").runs == {}
    MemoryStore.forget("shared by name")


def test_unknown_options_are_named(context: SinkContext) -> None:
    with pytest.raises(RejectedError, match=r"mine\.stroe: there is no such option; known are store"):
        make("mine", context, {"stroe": "x"})


def test_a_missing_run_is_named(store: MemoryStore) -> None:
    with pytest.raises(LookupError, match="it has none"):
        store.run("nobody")


def test_the_ledger_keeps_what_it_is_told() -> None:
    ledger = MemoryLedger()
    told: Ledger = ledger
    told.renamed("a b", "a_b")
    told.truncated("long", "cut at 250")
    told.merged(2, "equal")
    told.merged(1, "equal")
    told.warn("the param 'seed' was changed")
    assert (ledger.renames, ledger.truncations, ledger.merges) == ({"a b": "a_b"}, {"long": "cut at 250"}, 3)
    assert all(ledger.mentions(name) for name in ("a b", "long", "seed"))
    assert not ledger.mentions("loss")
