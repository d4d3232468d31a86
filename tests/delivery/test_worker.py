from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import DestinationFile
from rl_logging.delivery import DestinationWorker
from rl_logging.delivery import worker as worker_module
from rl_logging.media import dump_image
from rl_logging.records import Config, Image, Metrics, Record
from rl_logging.sinks import RejectedError
from rl_logging.testing.memory import MemoryStore
from tests.support.bundles import fill, make_bundle, make_entry
from tests.support.workers import ENTRY, Told, finish, kept, start, steps


def test_everything_arrives_in_order_and_the_end_is_told(bundle: Bundle, store: MemoryStore) -> None:
    fill(bundle, 2500)
    state = finish(start(bundle, store)[0])
    assert steps(store) == list(range(2500))
    assert store.run().handed == list(range(1, 2501))
    assert store.run().status == state.closed == "finished"
    assert (state.confirmed, state.delivered, state.phase) == (2501, 2501, "done")
    assert kept(bundle) == state


def test_records_are_delivered_while_the_run_goes_on(bundle: Bundle, store: MemoryStore) -> None:
    writer = fill(bundle, 3, end=None)
    worker, _ = start(bundle, store)
    assert store.wait_for(lambda it: bool(it.runs) and len(it.run().records) == 3)
    writer.append("metrics", 3, {"loss": 0.0})
    worker.wake()
    assert store.wait_for(lambda it: len(it.run().records) == 4)
    writer.append("end", None, {"status": "failed"})
    worker.wake()
    finish(worker)
    assert store.run().status == "failed"


def test_a_run_without_an_end_was_killed(bundle: Bundle, store: MemoryStore) -> None:
    fill(bundle, 3, end=None)
    worker, _ = start(bundle, store)
    assert store.wait_for(lambda it: bool(it.runs) and len(it.run().records) == 3)
    worker.run_is_over()
    assert finish(worker).closed == "killed"


def test_a_run_that_may_still_go_on_is_left_open(bundle: Bundle, store: MemoryStore) -> None:
    fill(bundle, 3, end=None)
    state = finish(start(bundle, store, live=False, ends=False)[0])
    assert (state.closed, state.confirmed, store.run().status) == (None, 3, "running")


def test_a_store_that_is_down_delays_and_loses_nothing(
    bundle: Bundle, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rl_logging.delivery.backoff.FIRST_S", 0.01)
    store.fail_open(2, ConnectionError("no route"))
    store.fail_write(2, after=100)
    fill(bundle, 500)
    worker, told = start(bundle, store)
    told.wait_for_phase("backoff")
    while worker.is_alive():
        worker.wake()
        worker.join(0.01)
    state = finish(worker)
    assert steps(store) == list(range(500))
    assert (state.delivered, state.last_error) == (501, None)
    assert ["no route" in told.warnings[0], "the store is down" in told.warnings[1]] == [True, True]
    assert len(told.warnings) == 2  # one an outage, not one a try


def test_when_the_run_is_over_a_dead_store_is_given_up_and_stays_owed(bundle: Bundle, store: MemoryStore) -> None:
    store.fail_open(1000)
    fill(bundle, 5)
    worker, told = start(bundle, store, patience_s=0.0)
    told.wait_for_phase("backoff")
    worker.run_is_over()
    state = finish(worker)
    assert (state.phase, state.confirmed, state.closed) == ("backoff", 0, None)
    store.restore()
    state = finish(start(bundle, store, live=False)[0])
    assert (state.phase, state.delivered) == ("done", 6)


def test_stop_leaves_what_is_owed_for_later(bundle: Bundle, store: MemoryStore) -> None:
    store.fail_write(1000)
    fill(bundle, 5)
    worker, told = start(bundle, store)
    told.wait_for_phase("backoff")
    worker.stop()
    state = finish(worker)
    assert state.confirmed == 0
    assert store.run().closes == [None]
    store.restore()
    assert finish(start(bundle, store)[0]).delivered == 6
    assert store.run().opens[1] == {"id": "abcd1234", "url": "memory://abcd1234", "opened": 1}


def test_only_confirmed_records_move_the_cursor(bundle: Bundle, store: MemoryStore) -> None:
    store.hold_confirmation()
    writer = fill(bundle, 10, end=None)
    worker, _ = start(bundle, store)
    assert store.wait_for(lambda it: bool(it.runs) and len(it.run().records) == 10)
    assert kept(bundle).confirmed == 0
    worker.stop()
    state = finish(worker)
    assert (state.confirmed, state.handed_over) == (0, 10)
    store.release_confirmation()
    writer.append("end", None, {"status": "finished"})
    assert finish(start(bundle, store)[0]).confirmed == 11
    assert sorted(set(store.run().handed)) == list(range(1, 11))
    assert len(store.run().handed) == 20
    assert steps(store) == list(range(10))


def test_refused_records_are_set_aside_and_the_rest_arrives(bundle: Bundle, store: MemoryStore) -> None:
    store.reject(lambda record: record.step == 3, "it is odd")
    fill(bundle, 6)
    worker, told = start(bundle, store)
    state = finish(worker)
    assert steps(store) == [0, 1, 2, 4, 5]
    assert (state.delivered, state.rejected, state.confirmed) == (6, 1, 7)
    rows = [json.loads(line) for line in DestinationFile(bundle, ENTRY).rejected_path.read_text().splitlines()]
    assert [(row["seq"], row["step"], row["reason"], row["body"]) for row in rows] == [
        (4, 3, "it is odd", {"loss": 1.5})
    ]
    assert "it is odd" in told.warnings[0]


def test_a_record_that_breaks_the_sink_is_found(
    bundle: Bundle, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rl_logging.delivery.backoff.FIRST_S", 0.001)
    monkeypatch.setattr("rl_logging.delivery.backoff.CAP_S", 0.001)
    fill(bundle, 20)
    poisoned = 13

    def make(context: Any) -> Any:
        sink = store.make("memory", context, {})
        write = sink.write

        def breaking(batch: list[Record]) -> None:
            if any(record.seq == poisoned for record in batch):
                raise ZeroDivisionError("poison")
            write(batch)

        sink.write = breaking  # type: ignore[method-assign]
        return sink

    told = Told()
    worker = DestinationWorker(bundle, ENTRY, make, live=True, tell=told.state, warn=told.warnings.append)
    worker.start()
    while worker.is_alive():
        worker.wake()
        worker.join(0.01)
    assert worker.book.state.rejected == 1
    assert steps(store) == [step for step in range(20) if step != poisoned - 1]
    assert "poison" in DestinationFile(bundle, ENTRY).rejected_path.read_text()


def test_a_refusal_to_open_stops_this_destination_and_is_told(bundle: Bundle, store: MemoryStore) -> None:
    store.fail_open(1, RejectedError("the experiment was deleted"))
    fill(bundle, 5)
    worker, told = start(bundle, store)
    state = finish(worker)
    assert (state.phase, state.last_error, state.confirmed) == ("refused", "the experiment was deleted", 0)
    assert "the experiment was deleted" in told.warnings[0]


def test_kinds_a_sink_does_not_take_are_counted_and_passed(bundle: Bundle, store: MemoryStore) -> None:
    store.accepts = frozenset({Config})
    writer = fill(bundle, 4, end=None)
    writer.append("config", None, {"lr": 0.1})
    writer.append("end", None, {"status": "finished"})
    state = finish(start(bundle, store)[0])
    assert (state.delivered, state.skipped, state.confirmed) == (2, 4, 6)


def test_an_unknown_kind_is_kept_and_owed(bundle: Bundle, store: MemoryStore) -> None:
    writer = fill(bundle, 2, end=None)
    writer.append("hologram", 2, {"x": 1})
    writer.append("metrics", 3, {"loss": 1.0})
    state = finish(start(bundle, store)[0])
    assert (state.confirmed, state.unknown) == (2, "hologram")
    assert "newer rl_logging" in (state.last_error or "")
    assert steps(store) == [0, 1]


def test_damage_in_the_journal_is_told_and_passed(bundle: Bundle, store: MemoryStore) -> None:
    fill(bundle, 10)
    segment = next(bundle.journal.glob("*.rlj"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(bytes(data))
    worker, told = start(bundle, store)
    state = finish(worker)
    assert state.delivered == 10
    assert state.damaged
    assert any("damaged" in warning for warning in told.warnings)


def test_where_no_lock_can_be_had_that_is_told(bundle: Bundle, store: MemoryStore) -> None:
    fill(bundle, 5)
    lock = bundle.sinks / f"{ENTRY.key}.lock"
    lock.mkdir(parents=True)  # as in a directory that only its owner may write
    worker, told = start(bundle, store)
    assert finish(worker).phase == "refused"
    (warning,) = told.warnings
    assert warning.startswith(f"delivery stopped: {lock} cannot be locked (Is a directory)")


def test_two_workers_never_deliver_to_one_destination(bundle: Bundle, store: MemoryStore) -> None:
    writer = fill(bundle, 5, end=None)
    first, _ = start(bundle, store)
    assert store.wait_for(lambda it: bool(it.runs) and len(it.run().records) == 5)
    second, told = start(bundle, store)
    told.wait_for_error("another process is delivering")
    writer.append("end", None, {"status": "finished"})
    first.wake()
    finish(first)
    second.wake()
    finish(second)
    assert store.run().handed == [1, 2, 3, 4, 5]


def test_a_hanging_store_delays_no_other(tmp_path: Path, store: MemoryStore) -> None:
    other = MemoryStore()
    entries = make_entry("memory"), make_entry("other")
    bundle = make_bundle(tmp_path, *entries)
    fill(bundle, 50)
    store.hold_writes()
    workers = []
    for entry, target in zip(entries, (store, other), strict=True):
        worker = DestinationWorker(
            bundle,
            entry,
            lambda context, target=target: target.make("memory", context, {}),  # type: ignore[misc]
            live=True,
            tell=lambda state: None,
            warn=lambda message: None,
        )
        worker.start()
        workers.append(worker)
    finish(workers[1])
    assert len(other.run().records) == 50
    assert not any(run.records for run in store.runs.values())  # it may not be open yet
    store.release_writes()
    finish(workers[0])
    assert len(store.run().records) == 50


def test_batches_are_bounded(bundle: Bundle, store: MemoryStore) -> None:
    fill(bundle, 3 * worker_module.BATCH)
    finish(start(bundle, store)[0])
    assert max(len(batch) for batch in store.run().batches) <= worker_module.BATCH
    assert all(isinstance(record, Metrics) for record in store.run().records.values())


def test_pictures_are_encoded_before_a_sink_sees_them(bundle: Bundle, store: MemoryStore) -> None:
    writer = fill(bundle, 1, end=None)
    name = dump_image(np.zeros((4, 5), np.uint8), bundle.path / "media", "x")
    writer.append("image", 3, {"name": "x", "path": f"media/{name}", "caption": None})
    writer.append("end", None, {"status": "finished"})
    assert finish(start(bundle, store)[0]).delivered == 3
    record = store.run().records[2]
    assert isinstance(record, Image)
    assert (bundle.path / record.path).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "out/secret", "models/gone"])
def test_what_leads_out_of_the_run_directory_or_is_gone_reaches_no_sink(
    bundle: Bundle, store: MemoryStore, path: str
) -> None:
    (bundle.path.parent / "secret").write_text("secret")
    (bundle.path / "out").symlink_to(bundle.path.parent)
    writer = fill(bundle, 1, end=None)
    for kind in ("image", "video", "model", "artifact", "environment"):
        writer.append(kind, 3, {"path": path} | ({} if kind == "environment" else {"name": "x"}))
    writer.append("end", None, {"status": "finished"})
    state = finish(start(bundle, store)[0])
    assert (state.delivered, state.rejected) == (2, 5)
    assert list(store.run().records) == [1]


def test_a_record_that_does_not_decode_is_told_and_passed(bundle: Bundle, store: MemoryStore) -> None:
    writer = fill(bundle, 1, end=None)
    writer.append("image", 3, {"name": 5, "path": []})
    deep: dict[str, Any] = {}
    for _ in range(2000):
        deep = {"a": deep}
    with contextlib.suppress(RecursionError):
        writer.append("config", None, deep)
    writer.append("end", None, {"status": "finished"})
    worker, told = start(bundle, store)
    state = finish(worker)
    assert (state.delivered, state.confirmed, state.phase) == (2, writer.seq, "done")
    assert any("record 2 does not decode" in warning for warning in told.warnings)
