"""CUDA values on a real device: no wait, no value lost. Skipped, and said so, where there is none."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from rl_logging import ExperimentLogger
from rl_logging.journal import JournalReader
from rl_logging.records import Metrics, decode
from rl_logging.run.device_copies import may_wait_beside_captures

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="there is no CUDA device here: what is shown on one is not shown"
)

BUSY_CYCLES = 2_000_000_000
"""About a second of a device's clock."""


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[ExperimentLogger]:
    with ExperimentLogger(dir=tmp_path, delivery="offline", quiet=True) as made:
        yield made


@pytest.fixture
def no_synchronisation() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def metrics(logger: ExperimentLogger) -> list[Metrics]:
    records = [decode(envelope) for envelope in JournalReader(logger.run_dir / "journal").read()]
    return [record for record in records if isinstance(record, Metrics)]


def scalars(count: int = 20) -> dict[str, torch.Tensor]:
    return {f"m/{index}": torch.tensor(index * 0.5, device="cuda") for index in range(count)}


def test_nothing_synchronises(logger: ExperimentLogger, no_synchronisation: None) -> None:
    large = torch.empty(4096, 64, device="cuda").normal_()
    values = {**scalars(), "count": torch.ones((), dtype=torch.int64, device="cuda")}
    for step in range(50):
        logger.log_metrics({**values, "grad": large, "losses": list(values.values()), "lr": 0.1}, step=step)
    logger.finish()
    rows = metrics(logger)
    assert [row.step for row in rows] == list(range(50))
    assert all(row.values["m/3"] == 1.5 and row.values["count"] == 1.0 for row in rows)


def test_a_busy_stream_is_not_waited_for(logger: ExperimentLogger) -> None:
    logger.log_metrics(scalars())  # the pinned memory is had
    logger.flush(timeout=30)
    values, large = scalars(), torch.empty(4096, 64, device="cuda").normal_()
    done = torch.cuda.Event()
    torch.cuda._sleep(BUSY_CYCLES)
    done.record()
    for step in range(10):
        logger.log_metrics({**values, "grad": large}, step=step)
        logger.log_metrics({"reward": float(step)}, step=step)
    assert not done.query(), "the device was waited for, or is too fast for this test"
    assert len([row for row in metrics(logger) if "reward" in row.values]) == 10
    assert not [row for row in metrics(logger) if "grad/mean" in row.values]
    logger.finish()
    assert len([row for row in metrics(logger) if "grad/mean" in row.values]) == 10


def test_figures_are_those_of_the_call_whatever_is_written_later(logger: ExperimentLogger) -> None:
    loss = torch.tensor(1.0, device="cuda")
    large = torch.arange(8.0, device="cuda")
    torch.cuda._sleep(BUSY_CYCLES // 10)
    for step in range(5):
        logger.log_metrics({"loss": loss, "g": large}, step=step)
        loss.add_(1.0)
        large.add_(1.0)
    logger.finish()
    assert [row.values["loss"] for row in metrics(logger)] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert [row.values["g/min"] for row in metrics(logger)] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_aggregates_are_those_of_numpy(logger: ExperimentLogger) -> None:
    host = np.random.default_rng(0).normal(3.0, 2.0, (4096, 64)).astype(np.float32)
    logger.log_metrics(
        {
            "g": torch.from_numpy(host).cuda(),
            "nan": torch.tensor([1.0, math.nan], device="cuda"),
            "half": torch.tensor([1.0, 3.0], dtype=torch.float16, device="cuda"),
            "flags": torch.tensor([True, False], device="cuda"),
        }
    )
    logger.finish()
    [row] = metrics(logger)
    exact = host.astype(np.float64)
    assert row.values["g/mean"] == pytest.approx(exact.mean(), rel=1e-4)
    assert row.values["g/std"] == pytest.approx(exact.std(), rel=1e-4)
    assert (row.values["g/min"], row.values["g/max"]) == (exact.min(), exact.max())
    assert all(math.isnan(row.values[f"nan/{part}"]) for part in ("mean", "std", "min", "max"))
    assert (row.values["half/mean"], row.values["half/std"], row.values["flags/mean"]) == (2.0, 1.0, 0.5)


def test_records_arrive_without_a_further_call(logger: ExperimentLogger) -> None:
    logger.log_metrics(scalars())
    deadline = time.monotonic() + 30
    while not metrics(logger) and time.monotonic() < deadline:
        torch.cuda.current_stream().synchronize()
    assert len(metrics(logger)) == 1


def test_a_graph_is_captured_while_values_are_awaited(logger: ExperimentLogger) -> None:
    static = torch.zeros(1024, device="cuda")
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    for step in range(20):
        logger.log_metrics(scalars(), step=step)
    with torch.cuda.graph(graph, stream=side):
        static.add_(1.0)
        logger.log_metrics({"inside": static.sum()})  # told, and not logged
    graph.replay()
    logger.log_metrics({"outside": static.sum()}, step=100)
    logger.finish()
    assert [row.step for row in metrics(logger)] == [*range(20), 100]
    assert metrics(logger)[-1].values == {"outside": 1024.0}


def test_the_driver_lets_the_thread_wait() -> None:
    assert may_wait_beside_captures()
