"""A store that comes back while somebody waits for it is asked again soon; while nobody does, it is left in peace."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import DestinationFile
from rl_logging.delivery import backoff
from rl_logging.delivery.book import Book
from rl_logging.delivery.patience import Patience
from rl_logging.launch import booting
from rl_logging.launch.child import DeliveryProcess
from rl_logging.run import standing
from rl_logging.sinks import TransientError
from rl_logging.testing.files import FileStore
from rl_logging.testing.memory import MemoryStore
from tests.support.workers import ENTRY, finish, start

DOWN = TransientError("the store is down")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each wait, none of which takes any time."""
    waited: list[float] = []
    monkeypatch.setattr(Patience, "_wait", lambda self, seconds: waited.append(seconds))
    return waited


@pytest.fixture
def patience(bundle: Bundle) -> Patience:
    """A worker's, whose store has been down for long."""
    book = Book(DestinationFile(bundle, ENTRY), lambda state: None, lambda message: None)
    patience = Patience(book, lambda message: None, live=True, patience_s=5.0)
    patience._backoff.attempts = 20
    return patience


def test_while_somebody_waits_the_tries_are_close_together_and_spread(patience: Patience, waits: list[float]) -> None:
    patience.wake(1000.0)
    for _ in range(20):
        patience.pause(DOWN)
    assert max(waits) <= backoff.AWAITED_CAP_S
    assert min(waits) >= backoff.AWAITED_CAP_S / 2
    assert len(set(waits)) > 1


def test_a_time_that_the_store_named_is_kept_to(patience: Patience, waits: list[float]) -> None:
    patience.wake(1000.0)
    patience.pause(TransientError("too many requests", retry_after_s=7.0))
    assert waits == [pytest.approx(7.0, abs=0.1)]


def test_it_is_kept_to_however_often_somebody_begins_to_wait(
    patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0

    def asked_each_second(self: Patience, seconds: float) -> None:
        nonlocal now_s
        now_s += min(seconds, 1.0)

    monkeypatch.setattr(Patience, "_wait", asked_each_second)
    monkeypatch.setattr("rl_logging.delivery.patience.time", SimpleNamespace(monotonic=lambda: now_s))
    tries = []
    for _ in range(6):
        patience.pause(TransientError("too many requests", retry_after_s=60.0))
        tries.append(now_s - 1000.0)
    # Once before its time, for whoever waits, and then when it has come.
    assert tries == [1, 60, 61, 120, 121, 180]


def test_a_flush_tells_again_and_again_that_it_still_waits(
    tmp_path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "STILL_WAITS_S", 0.02)
    with ExperimentLogger(sinks={"memory": store.make}, delivery="thread", dir=tmp_path, quiet=True) as logger:
        told: list[float] = []
        monkeypatch.setattr(logger._last_run, "wake", told.append)
        logger.log_metrics({"a": 1.0})
        store.hold_confirmation()
        assert not logger.flush(timeout=0.2)
        store.release_confirmation()
        assert len(told) > 2
        assert max(told) <= 0.02
        assert logger.flush(60)


def test_when_nobody_waits_any_more_the_store_is_left_in_peace(patience: Patience, waits: list[float]) -> None:
    patience.pause(DOWN)
    patience.wake()  # looked, and went on
    patience.pause(DOWN)
    patience.wake(1000.0)
    patience.answered(patience.asked)
    patience.pause(DOWN)
    patience.wake()
    patience.pause(DOWN)
    assert min(waits) >= backoff.CAP_S / 2


def test_who_was_told_of_every_record_still_waits_for_the_run_s_end(patience: Patience, waits: list[float]) -> None:
    patience.wake(1000.0)
    patience.answered(patience.asked)
    patience.pause(DOWN, closing=True)
    assert max(waits) <= backoff.AWAITED_CAP_S


def test_a_worker_s_store_is_asked_until_it_is_back(
    bundle: Bundle, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("FIRST_S", 1000.0), ("CAP_S", 1000.0), ("AWAITED_CAP_S", 0.01)):
        monkeypatch.setattr(backoff, name, seconds)
    store.fail_open(5)
    worker, told = start(bundle, store)
    told.wait_for_phase("backoff")
    worker.wake(1000.0)
    told.wait_for_phase("delivering")
    worker.run_is_over()
    finish(worker)


@pytest.fixture
def reluctant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The factory of a sink that opens at the fifth try; where nobody waits for it, it is tried once."""
    (tmp_path / "reluctant.py").write_text(
        textwrap.dedent(
            """
            from rl_logging.delivery import backoff
            from rl_logging.sinks import TransientError
            from rl_logging.testing import files

            backoff.FIRST_S = backoff.CAP_S = 1000.0
            backoff.AWAITED_CAP_S = 0.01
            tries = []

            def make(name, context, options):
                sink = files.make(name, context, options)
                inner = sink.open

                def open_at_last(state):
                    tries.append(state)
                    if len(tries) < 5:
                        raise TransientError("not yet")
                    return inner(state)

                sink.open = open_at_last
                return sink
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(booting, "LINGER_S", 0.0)
    DeliveryProcess.forget_all()
    yield "reluctant:make"
    DeliveryProcess.forget_all()


@pytest.mark.parametrize("how", ["flush", "finish"])
def test_the_delivery_process_knows_for_how_long_somebody_waits(tmp_path: Path, reluctant: str, how: str) -> None:
    path = tmp_path / "out.jsonl"
    sinks = {"file": {"factory": reluctant, "path": str(path)}}
    logger = ExperimentLogger(sinks=sinks, dir=tmp_path / "runs", quiet=True)
    logger.log_metrics({"a": 1.0}, step=0)
    if how == "flush":
        assert logger.flush(60)
    logger.finish(timeout=60)
    assert FileStore(path).points() == [("a", 0, 1.0)]
    assert FileStore(path).status() == "finished"
