"""What an attached agent's copies in other processes tell, one by one. Passes under skrl 1.4.3 and 2.x alike."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from multiprocessing.connection import Client
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("skrl")

from rl_logging.adapters.skrl import attach
from rl_logging.adapters.skrl.relay import Relay
from tests.support.skrl_logger import FakeLogger
from tests.support.skrl_training import Training

WAIT_S = 30.0


class Heard:
    """Stands in for the pipeline, and is told each step."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.warnings: list[str] = []
        self._news = threading.Semaphore(0)

    def canonical(self, values: Any, step: int) -> None:
        pass

    def step(self, step: int) -> None:
        self.steps.append(step)
        self._news.release()

    def warn_once(self, key: str, message: str) -> None:
        self.warnings.append(message)
        self._news.release()

    def wait(self) -> None:
        assert self._news.acquire(timeout=WAIT_S)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def relay(heard: Heard) -> Iterator[Relay]:
    made = Relay(SimpleNamespace(warn_once=heard.warn_once), heard, heard.step)  # type: ignore[arg-type]
    yield made
    made.close()
    assert not made._thread.is_alive()


def copy_at(address: Any) -> Any:
    return Client(address, authkey=multiprocessing.current_process().authkey)


def test_a_second_copy_is_heard_after_the_first(relay: Relay, heard: Heard) -> None:
    for step in (10, 20):
        with copy_at(relay.address) as connection:
            connection.send(("canonical", {}, step))
            heard.wait()
        relay.hear_out()
    assert heard.steps == [10, 20]
    assert heard.warnings == []


def test_a_stranger_ends_nothing(relay: Relay, heard: Heard) -> None:
    with pytest.raises(multiprocessing.AuthenticationError):
        Client(relay.address, authkey=b"another")
    heard.wait()
    with copy_at(relay.address) as connection:
        connection.send(("canonical", {}, 10))
        heard.wait()
    assert heard.steps == [10]
    assert len(heard.warnings) == 1


def test_the_next_copy_goes_on_where_the_run_is(tmp_path: Path) -> None:
    training, logger = Training("PPO", tmp_path), FakeLogger()
    handle: Any = attach(logger, training.agent, initial_step=40)
    first = handle._leaves()
    assert first is handle._leaves()
    assert first.begins_at == 40
    with copy_at(first._address) as connection:
        connection.send(("canonical", {"fps": 1.0}, 120))
    second = handle._leaves()
    assert (second.begins_at, second._address) == (120, first._address)
    handle.detach()
    assert logger.points()["fps"] == {120: 1.0}
    assert logger.warnings == {}
