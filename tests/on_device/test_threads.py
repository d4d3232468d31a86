"""Who accepts what arrives from a device: a thread, a later call, a signal handler; each record once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rl_logging import ExperimentLogger
from rl_logging.journal import JournalReader
from rl_logging.records import End, Metrics, decode
from rl_logging.run import arriving
from rl_logging.run.arriving import ArrivingRecords
from rl_logging.run.device_copies import DeviceCopies
from tests.support.cuda_stand_in import WAIT_S, Stream, on_cuda


def held(stream: Stream, *, may_wait: bool = True) -> tuple[ArrivingRecords, list[list[float]], list[str]]:
    told: list[str] = []
    accepted: list[list[float]] = []
    records = ArrivingRecords(DeviceCopies(), lambda: may_wait, lambda key, message: told.append(message))
    return records, accepted, told


def test_the_thread_accepts_without_any_further_call(stream: Stream) -> None:
    records, _, told = held(stream)
    there = threading.Event()
    figures: list[float] = []

    def accept(values: list[float]) -> None:
        figures.extend(values)
        there.set()

    records.hold([on_cuda(0.5)], accept)
    assert not there.is_set()
    stream.run()
    assert there.wait(WAIT_S)
    assert (figures, told) == ([0.5], [])
    records.close(WAIT_S)


def test_the_thread_keeps_the_order_of_the_calls(stream: Stream) -> None:
    records, accepted, _ = held(stream)
    for number in range(100):
        records.hold([on_cuda(float(number))], accepted.append)
        if number % 7 == 0:
            stream.run()
    stream.run()
    records.close(WAIT_S)
    assert accepted == [[float(number)] for number in range(100)]


def test_beyond_the_most_it_drops_and_counts(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "MOST", 3)
    records, accepted, told = held(stream, may_wait=False)
    for number in range(5):
        records.hold([on_cuda(float(number))], accepted.append)
    assert (len(records), records.lost) == (3, 2)
    assert "3 records wait for it already" in told[0]
    stream.run()
    records.close(WAIT_S)
    assert accepted == [[0.0], [1.0], [2.0]]


def test_what_another_thread_ends_the_run_before_is_counted(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    records, accepted, told = held(stream)
    start = DeviceCopies.start

    def ended_meanwhile(*arguments: Any) -> Any:
        closing = threading.Thread(target=records.close, args=(0.0,))
        closing.start()
        closing.join(WAIT_S)
        return start(*arguments)

    monkeypatch.setattr(DeviceCopies, "start", ended_meanwhile)
    records.hold([on_cuda(0.5)], accepted.append)
    assert (len(records), records.lost, len(told)) == (0, 1, 1)
    assert accepted == []


# -- interrupted ----------------------------------------------------------------------------------------------------


class Steps:
    """Calls `interrupt` before the given line that this thread runs in `ArrivingRecords`, as a signal handler would."""

    def __init__(self, number: int, interrupt: Callable[[], None]) -> None:
        self.left = number
        self._interrupt = interrupt

    def __call__(self, frame: Any, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename != arriving.__file__:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                self._interrupt()
        return self


def interrupted_at(number: int, call: Callable[[], object], interrupt: Callable[[], None]) -> bool:
    """Returns whether the call was long enough to be interrupted there."""
    steps = Steps(number, interrupt)
    before = sys.gettrace()
    sys.settrace(steps)
    try:
        call()
    finally:
        sys.settrace(before)
    return steps.left <= 0


def test_a_handler_that_finishes_the_run_wherever_it_interrupts_doubles_and_loses_nothing(
    tmp_path: Path, stream: Stream
) -> None:
    """As SIGTERM's or a user's own: it comes at each line that the logger's thread runs while it takes what arrived."""
    number, goes_on = 0, True
    while goes_on:
        number += 1
        with ExperimentLogger(dir=tmp_path / str(number), delivery="offline", quiet=True) as logger:
            for step in range(2):
                logger.log_metrics({"loss": on_cuda(float(step))}, step=step)
            stream.run()
            goes_on = interrupted_at(number, lambda logger=logger: logger.flush(timeout=0), logger.finish)  # type: ignore[misc]
        records = [decode(envelope) for envelope in JournalReader(logger.run_dir / "journal").read()]
        rows = [record for record in records if isinstance(record, Metrics)]
        assert sorted((row.step, row.values["loss"]) for row in rows) == [(0, 0.0), (1, 1.0)], number
        assert isinstance(records[-1], End), number
        assert logger._last_run.lost == 0  # type: ignore[attr-defined]
    assert number > 20


def test_a_handler_that_takes_wherever_it_interrupts_takes_each_once(stream: Stream) -> None:
    number, goes_on = 0, True
    while goes_on:
        number += 1
        records, accepted, told = held(stream, may_wait=False)
        for value in range(3):
            records.hold([on_cuda(float(value))], accepted.append)
        stream.run()
        goes_on = interrupted_at(number, records.take, lambda records=records: records.take())  # type: ignore[misc]
        records.close(0)
        assert sorted(accepted) == [[0.0], [1.0], [2.0]], number
        assert (told, records.lost) == ([], 0)
    assert number > 20


def test_two_threads_take_each_once(stream: Stream) -> None:
    records, accepted, _ = held(stream)
    takers = [threading.Thread(target=lambda: [records.take() for _ in range(300)]) for _ in range(2)]
    for taker in takers:
        taker.start()
    for number in range(300):
        records.hold([on_cuda(float(number))], accepted.append)
        stream.run()
    for taker in takers:
        taker.join(WAIT_S)
    records.close(WAIT_S)
    assert accepted == [[float(number)] for number in range(300)]


def test_the_end_waits_for_what_the_thread_is_accepting(stream: Stream) -> None:
    records, _, told = held(stream)
    begun, may_end = threading.Event(), threading.Event()
    accepted: list[list[float]] = []

    def slowly(values: list[float]) -> None:
        begun.set()
        may_end.wait(WAIT_S)
        accepted.append(values)

    records.hold([on_cuda(0.5)], slowly)
    stream.run()
    assert begun.wait(WAIT_S)
    assert not records.settle(0)
    may_end.set()
    assert records.settle(WAIT_S)
    assert accepted == [[0.5]]
    records.close(0)
    assert told == []
