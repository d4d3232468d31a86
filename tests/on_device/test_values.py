"""Values on a device: nobody waits for them, none is lost, and each keeps the step and time of its call."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rl_logging import ExperimentLogger
from rl_logging.extraction import aggregate, flatten
from rl_logging.records import Metrics
from rl_logging.run import journaled
from rl_logging.run.arriving import ArrivingRecords
from rl_logging.run.device_copies import Copy, DeviceCopies
from rl_logging.run.journaled import JournaledRun
from rl_logging.testing.memory import MemoryStore
from tests.support.cuda_stand_in import Stream, on_cuda
from tests.support.journaled import records, warnings


def metrics(logger: ExperimentLogger) -> list[Metrics]:
    return records(logger, Metrics)


def test_the_caller_does_not_wait_and_other_records_do_not_either(logger: ExperimentLogger, stream: Stream) -> None:
    logger.log_metrics({"loss": on_cuda(0.5), "lr": 0.1}, step=1)
    logger.log_metrics({"reward": 2.0}, step=2)
    assert [(row.step, row.values) for row in metrics(logger)] == [(2, {"reward": 2.0})]
    stream.run()
    logger.flush()
    late = metrics(logger)[1]
    assert (late.step, late.values) == (1, {"loss": 0.5, "lr": 0.1})
    assert list(late.values) == ["loss", "lr"]
    assert [row.seq for row in metrics(logger)] == sorted(row.seq for row in metrics(logger))
    assert late.time < metrics(logger)[0].time


def test_flush_waits_for_the_device_and_then_for_the_store(tmp_path: Path, stream: Stream) -> None:
    store = MemoryStore()
    with ExperimentLogger(dir=tmp_path, sinks={"memory": store.make}, quiet=True) as logger:
        assert logger.flush(60)
        logger.log_metrics({"loss": on_cuda(0.5)})
        assert not logger.flush(timeout=0)
        stream.run()
        assert logger.flush(60)
        assert [record.values for record in store.run().records.values() if isinstance(record, Metrics)] == [
            {"loss": 0.5}
        ]


def test_finish_waits_for_what_is_on_its_way(logger: ExperimentLogger, stream: Stream) -> None:
    logger.log_metrics({"loss": on_cuda([1.0, 3.0])}, step=1)
    logger.on_finish(stream.run)
    logger.finish()
    [row] = metrics(logger)
    assert row.values == {"loss/mean": 2.0, "loss/std": 1.0, "loss/min": 1.0, "loss/max": 3.0}


def test_what_has_not_arrived_at_the_end_is_told(
    logger: ExperimentLogger, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    logger.log_metrics({"loss": on_cuda(0.5)})
    logger.log_metrics({"loss": on_cuda(0.5)})
    logger.finish(timeout=0)
    assert metrics(logger) == []
    assert any("2 records had not arrived" in message for message in warnings(caplog))
    assert stream.waits == 0


def test_a_device_that_hangs_leaves_delivery_no_time_of_its_own(
    logger: ExperimentLogger, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(journaled, "time", SimpleNamespace(time=time.time, monotonic=lambda: clock.now))
    waited: list[float] = []

    def close(_: ArrivingRecords, timeout_s: float) -> None:
        waited.append(timeout_s)
        clock.now += timeout_s

    def deliver(_: JournaledRun, deadline: float) -> None:
        waited.append(deadline - clock.now)

    monkeypatch.setattr(ArrivingRecords, "close", close)
    monkeypatch.setattr(JournaledRun, "_wait_for_delivery", deliver)
    monkeypatch.setattr("rl_logging.launch.progress.Progress.active", True)
    logger.finish(timeout=7)
    assert waited == [7.0, 0.0]


def test_later_calls_take_what_has_arrived_in_order(logger: ExperimentLogger, stream: Stream) -> None:
    for step in range(4):
        logger.log_metrics({"loss": on_cuda(float(step))}, step=step)
    stream.run(2)
    logger.log_metrics({"loss": on_cuda(4.0)}, step=4)
    assert [row.step for row in metrics(logger)] == [0, 1]
    stream.run()
    logger.flush()
    assert [(row.step, row.values["loss"]) for row in metrics(logger)] == [(step, float(step)) for step in range(5)]


def test_status_shows_what_is_on_its_way(tmp_path: Path, stream: Stream) -> None:
    sink = {"factory": "rl_logging.testing.files:make", "folder": str(tmp_path / "store")}
    with ExperimentLogger(dir=tmp_path, delivery="offline", sinks={"files": sink}, quiet=True) as logger:
        logger.log_metrics({"loss": on_cuda(0.5)})
        assert logger.status()["files"].on_device == 1
        stream.run()
        logger.flush(timeout=0)
        assert logger.status()["files"].on_device == 0


def test_the_filter_spares_the_copy(tmp_path: Path, stream: Stream) -> None:
    config = {"rl_logging": {"metric_filter": ["loss", "g/max"]}}
    with ExperimentLogger(config, dir=tmp_path, delivery="offline", quiet=True) as logger:
        logger.log_metrics({"other": on_cuda(0.5)}, step=1)
        assert not stream.events
        logger.log_metrics({"loss": on_cuda(0.5), "g": on_cuda([1.0, 2.0])}, step=2)
        stream.run()
    assert [row.values for row in metrics(logger)] == [{"loss": 0.5, "g/max": 2.0}]


def test_final_score_and_best_count_late_values(logger: ExperimentLogger, stream: Stream) -> None:
    logger.define_metric("eval/mean_reward", "max")
    logger.log_metrics({"eval/mean_reward": on_cuda(7.0)}, step=5)
    assert logger.get_final_score() is None
    stream.run()
    logger.flush()
    assert logger.get_final_score() == 7.0
    assert logger.best("eval/mean_reward") == 7.0


def test_disabled_asks_no_device(tmp_path: Path, stream: Stream) -> None:
    with ExperimentLogger(dir=tmp_path, delivery="disabled", quiet=True) as logger:
        logger.log_metrics({"loss": on_cuda(0.5)})
    assert not stream.events


def test_a_captured_graph_is_left_alone(
    logger: ExperimentLogger, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    stream.capturing = True
    logger.log_metrics({"loss": on_cuda(0.5)})
    stream.capturing = False
    assert not stream.events
    assert any("log its values after the replay" in message for message in warnings(caplog))


def test_a_device_that_fails_costs_its_records_and_is_told(
    logger: ExperimentLogger, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    logger.log_metrics({"loss": on_cuda(0.5)}, step=1)
    stream.failed = True
    logger.log_metrics({"reward": 1.0}, step=2)
    logger.flush(timeout=0)
    stream.failed = False
    assert [row.step for row in metrics(logger)] == [2]
    assert any("device-side assert" in message for message in warnings(caplog))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_does_not_ask_the_device(logger: ExperimentLogger, stream: Stream) -> None:
    logger.log_metrics({"loss": on_cuda(0.5)}, step=1)
    child = os.fork()
    if child == 0:
        stream.failed = True
        logger.log_metrics({"loss": 1.0})
        logger.finish()
        os._exit(len(logger._last_run.states()))
    assert os.waitpid(child, 0)[1] == 0
    stream.run()
    logger.flush()
    assert [row.step for row in metrics(logger)] == [1]


# -- what is asked of the device ----------------------------------------------------------------------------------


def arrived(metrics: dict[str, Any], stream: Stream) -> dict[str, float]:
    later: dict[str, Any] = {}
    values = flatten(metrics, lambda key, message: pytest.fail(message), later=later)
    copy = DeviceCopies().start(list(later.values()))
    stream.run()
    assert copy.arrived()
    values.update(zip(later, copy.figures(), strict=True))
    return values


@pytest.mark.parametrize(
    "elements",
    [
        [1.0, 2.0, 4.0],
        [[1, 2], [3, 5]],
        [True, False, True],
        [1.0, math.nan, 2.0],
        [1.0, math.inf],
        torch.linspace(-3, 5, 4096).tolist(),
    ],
)
def test_aggregates_are_those_of_the_host(stream: Stream, elements: list[Any]) -> None:
    on_host = aggregate("m", elements)
    for tensor in (on_cuda(elements), [on_cuda(element) for element in elements]):
        values = arrived({"m": tensor}, stream)
        assert values.keys() == on_host.keys()
        assert all(type(value) is float for value in values.values())
        assert list(values.values()) == pytest.approx(list(on_host.values()), rel=1e-5, nan_ok=True)


def test_every_type_keeps_what_it_can_hold(stream: Stream) -> None:
    values = {
        "float": on_cuda(0.1, dtype=torch.float32),
        "double": on_cuda(0.1, dtype=torch.float64, requires_grad=True),
        "half": on_cuda([[0.5]], dtype=torch.bfloat16),
        "count": on_cuda(2**40 + 1),
        "flag": on_cuda(True),
        "python": 1.5,
    }
    expected = {
        "float": float(torch.tensor(0.1)),
        "double": 0.1,
        "half": 0.5,
        "count": 2.0**40 + 1,
        "flag": 1.0,
        "python": 1.5,
    }
    assert arrived(values, stream) == expected
    assert arrived({"count": values["count"]}, stream) == {"count": expected["count"]}


def test_one_copy_and_one_event_a_call(stream: Stream) -> None:
    DeviceCopies().start([on_cuda(float(number)) for number in range(20)])
    assert len(stream.events) == 1


def test_pinned_memory_is_used_again(stream: Stream) -> None:
    copies = DeviceCopies()
    hosts = set()
    for number in range(200):
        copy = copies.start([on_cuda(float(number))])
        stream.run()
        assert copy.figures() == [float(number)]
        hosts.update(slot.host.data_ptr() for slots in copies._free.values() for slot in slots)
    assert len(hosts) == 64


def test_a_name_given_again_as_a_number_is_that_number(stream: Stream) -> None:
    later: dict[str, Any] = {}
    values = flatten({"a": {"b": on_cuda(1.0)}, "a/b": 2.0}, lambda key, message: None, later=later)
    assert (values, later) == ({"a/b": 2.0}, {})


@pytest.mark.parametrize("value", [on_cuda([1j, 2j]), on_cuda([])])
def test_what_is_no_metric_is_told(stream: Stream, value: Any) -> None:
    told: list[str] = []
    later: dict[str, Any] = {}
    assert flatten({"m": value}, lambda key, message: told.append(message), later=later) == {}
    assert later == {}
    assert len(told) == 1


def test_a_copy_from_two_devices_is_in_the_order_given() -> None:
    class Slot:
        def __init__(self, figures: list[float]) -> None:
            self.key: Any = "key"
            self.host = torch.tensor(figures)

    parts: Any = [(Slot([1.0, 3.0]), [0, 2]), (Slot([2.0]), [1])]
    free: Any = {"key": []}
    assert Copy(parts, free).figures() == [1.0, 2.0, 3.0]
