from __future__ import annotations

import queue
import threading
from pathlib import Path

import pytest

from rl_logging.system_metrics import Machine, Sampling

WAIT_S = 60


def test_the_first_sample_comes_at_once_and_then_one_each_interval_until_it_is_stopped(tmp_path: Path) -> None:
    taken: queue.Queue[dict[str, float]] = queue.Queue()
    rare = Sampling(tmp_path, 3600, taken.put, pytest.fail)
    rare.start()
    assert "system/memory_percent" in taken.get(timeout=WAIT_S)
    often = Sampling(tmp_path, 0.1, taken.put, pytest.fail)
    often.start()
    for _ in range(3):
        taken.get(timeout=WAIT_S)
    for sampling in (rare, often):
        sampling.stop()
        assert sampling.join(WAIT_S)


def test_what_cannot_be_had_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr("psutil.disk_usage", fail)
    taken: queue.Queue[dict[str, float]] = queue.Queue()
    told: list[str] = []
    sampling = Sampling(tmp_path, 0.1, taken.put, lambda key, message: told.append(key))
    sampling.start()
    for _ in range(3):
        assert "system/disk_percent" not in taken.get(timeout=WAIT_S)
    sampling.stop()
    assert sampling.join(WAIT_S)
    assert told == ["disk"]


def test_a_system_that_gives_no_thread_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    told: list[str] = []
    Sampling(tmp_path, 0.1, pytest.fail, lambda key, message: told.append(message)).start()
    assert told == ["the machine cannot be sampled: can't start new thread"]


def test_a_defect_ends_the_sampling_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Machine) -> dict[str, float]:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Machine, "figures", fail)
    sampling = Sampling(tmp_path, 0.1, pytest.fail, pytest.fail)
    sampling.start()
    assert sampling.join(WAIT_S)
    assert "sampling the machine failed" in caplog.text
