"""Sinks that hang: their worker goes on with a new one, and each record arrives once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rl_logging.delivery import DestinationWorker
from rl_logging.delivery.opening import ABANDONED_MOST
from rl_logging.records import Record, RunStatus
from rl_logging.sinks import Sink, SinkContext
from rl_logging.testing.memory import MemorySink, MemoryStore
from tests.support.bundles import fill, make_bundle, make_entry
from tests.support.deadlines import Deadline

CALL_S = 0.2


@pytest.fixture
def deadline(monkeypatch: pytest.MonkeyPatch) -> Deadline:
    return Deadline(monkeypatch)


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    made = MemoryStore()
    yield made
    made.restore()


class Hanging(MemorySink):
    """Hangs in one of its calls until it is let go on, or for a minute.

    Args:
        context: The run.
        store: Where it delivers.
        what: The call.
        deadline: What passes then; None: the clock's does.
    """

    def __init__(self, context: SinkContext, store: MemoryStore, what: str, deadline: Deadline | None = None) -> None:
        super().__init__(context, store)
        self.what = what
        self._deadline = deadline
        self.go_on = threading.Event()
        self.inside: set[threading.Thread] = set()
        self.closed_with: list[RunStatus | None] = []
        self.was_closed = threading.Event()

    def _hang(self, what: str) -> None:
        self.inside.add(threading.current_thread())
        if what == self.what:
            self.what = ""
            if self._deadline is not None:
                self._deadline.passes()
            self.go_on.wait(60)

    def open(self, state: Any) -> Any:
        self._hang("open")
        return super().open(state)

    def write(self, batch: Sequence[Record], /) -> None:
        self._hang("write")
        super().write(batch)

    def confirmed(self) -> int:
        self._hang("confirmed")
        return super().confirmed()

    def close(self, status: RunStatus | None, /) -> None:
        self._hang("close")
        self.closed_with.append(status)
        if status is not None or not self.go_on.is_set():
            super().close(status)
        self.was_closed.set()


class Yielding(Hanging):
    """One that can be told to give up its call."""

    def abandon(self) -> None:
        self.go_on.set()


def work(
    folder: Path, make: Callable[[SinkContext], Sink], call_s: float = CALL_S, **options: Any
) -> tuple[DestinationWorker, list[str]]:
    entry = make_entry()
    bundle = make_bundle(folder, entry)
    fill(bundle, 50)
    errors: list[str] = []
    worker = DestinationWorker(
        bundle,
        entry,
        make,
        tell=lambda state: errors.append(state.last_error or ""),
        warn=lambda message: None,
        call_s=call_s,
        **{"live": False, "patience_s": 20.0, **options},
    )
    worker.start()
    return worker, errors


def await_error(worker: DestinationWorker, errors: list[str], words: str) -> None:
    """Waits until the worker tells of an error with these words, trying again at once meanwhile."""
    pause = threading.Event()
    while not any(words in error for error in errors):
        assert worker.is_alive()
        worker.wake()
        pause.wait(0.05)


@pytest.mark.parametrize("what", ["open", "write", "confirmed", "close"])
def test_a_call_that_hangs_is_left_behind_and_a_new_sink_goes_on(
    tmp_path: Path, store: MemoryStore, deadline: Deadline, what: str
) -> None:
    made: list[Hanging] = []

    def make(context: SinkContext) -> Sink:
        made.append(Hanging(context, store, what if not made else "", deadline))
        return made[-1]

    worker, errors = work(tmp_path, make)
    worker.join(60)
    assert not worker.is_alive()
    assert any(f"the sink's {what} has not returned" in error for error in errors)
    assert len(made) == 2
    state = worker.book.state
    assert (state.phase, state.delivered, state.closed, state.last_error) == ("done", 51, "finished", None)
    assert list(store.run().records) == list(range(1, 51))
    assert store.run().status == "finished"
    # What comes back after all is let go of by its own thread, and moves nothing.
    made[0].go_on.set()
    assert made[0].was_closed.wait(60)
    assert all(len(sink.inside) == 1 for sink in made), "two threads were in one sink"
    assert list(store.run().records) == list(range(1, 51))


def test_a_sink_that_can_is_asked_to_give_up_its_call(tmp_path: Path, store: MemoryStore, deadline: Deadline) -> None:
    made: list[Yielding] = []

    def make(context: SinkContext) -> Sink:
        assert all(sink.closed_with[-1:] == [None] for sink in made), "an earlier one is still at it"
        made.append(Yielding(context, store, "write" if not made else "", deadline))
        return made[-1]

    worker, _ = work(tmp_path, make, call_s=60.0)
    worker.join(60)
    assert worker.book.state.phase == "done"
    assert len(made) == 2
    assert sorted(store.run().records) == list(range(1, 51))


def test_calls_that_never_return_are_bounded_in_number_and_told(tmp_path: Path, store: MemoryStore) -> None:
    made: list[Hanging] = []

    def make(context: SinkContext) -> Sink:
        made.append(Hanging(context, store, "open"))
        return made[-1]

    worker, errors = work(tmp_path, make)
    await_error(worker, errors, f"{ABANDONED_MOST} calls to this sink have not returned")
    worker.stop()
    worker.join(60)
    assert not worker.is_alive()
    assert len(made) == ABANDONED_MOST
    assert worker.book.state.confirmed == 0
    for sink in made:
        sink.go_on.set()


def test_a_live_object_is_not_touched_while_a_call_is_in_it(
    tmp_path: Path, store: MemoryStore, deadline: Deadline
) -> None:
    made: list[Hanging] = []

    def give(context: SinkContext) -> Sink:
        if not made:
            made.append(Hanging(context, store, "write", deadline))
        return made[0]

    worker, errors = work(tmp_path, give)
    await_error(worker, errors, "which is an object of the program")
    assert len(made[0].inside) == 1
    made[0].go_on.set()
    worker.wake()
    worker.join(60)
    assert worker.book.state.phase == "done"
    assert sorted(store.run().records) == list(range(1, 51))
