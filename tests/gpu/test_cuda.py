"""CUDA values on a real device: no wait, no value lost. Skipped, and said so, where there is none."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rl_logging import ExperimentLogger
from rl_logging.adapters.skrl.device_episodes import DeviceEpisodes
from rl_logging.adapters.skrl.episodes import Episodes
from rl_logging.extraction import Window
from rl_logging.journal import JournalReader
from rl_logging.records import Image, Metrics, Video, decode
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


def media(logger: ExperimentLogger) -> list[Any]:
    records = [decode(envelope) for envelope in JournalReader(logger.run_dir / "journal").read()]
    return [record for record in records if isinstance(record, (Image, Video))]


def pixels(logger: ExperimentLogger, record: Any) -> Any:
    return np.load(logger.run_dir / f"{record.path}.npy")


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


def test_pictures_and_videos_do_not_synchronise_and_are_those_of_the_call(
    logger: ExperimentLogger, no_synchronisation: None
) -> None:
    picture = torch.zeros(64, 48, 3, dtype=torch.uint8, device="cuda")
    frames = torch.zeros(10, 3, 32, 32, device="cuda")
    for step in range(5):
        logger.log_image("picture", picture, step=step)
        logger.log_video("video", frames, step=step, fps=10)
        logger.log_video("turned", frames.permute(0, 2, 3, 1), step=step)
        logger.log_video("frames", [*frames], step=step)
        picture.add_(10)
        frames.add_(0.1)
    logger.finish()
    assert len(media(logger)) == 20
    for record in media(logger):
        assert record.step is not None
        expected = 10 * record.step if record.name == "picture" else round(record.step * 25.5)
        assert abs(pixels(logger, record).astype(int) - expected).max() <= 1, (record.name, record.step)


def test_a_busy_stream_is_not_waited_for_by_a_video(logger: ExperimentLogger) -> None:
    frames = torch.randint(0, 256, (200, 128, 128, 3), dtype=torch.uint8, device="cuda")
    logger.log_video("video", frames, step=0)  # the pinned memory is had
    logger.flush(timeout=30)
    done = torch.cuda.Event()
    torch.cuda._sleep(BUSY_CYCLES)
    done.record()
    logger.log_video("video", frames, step=1)
    assert not done.query(), "the device was waited for, or is too fast for this test"
    assert [record.step for record in media(logger)] == [0]
    logger.finish()
    assert [record.step for record in media(logger)] == [0, 1]
    assert (pixels(logger, media(logger)[1]) == frames.cpu().numpy()).all()


def test_a_window_is_reduced_on_the_device(no_synchronisation: None) -> None:
    window = Window()
    value = torch.zeros(1, device="cuda")
    for how in ("last", "mean", "min", "max"):
        for number in range(600):
            value.fill_(number % 7)
            window.add(how, value, how)
            window.add(how, float(number % 7), how)
    reduced = window.drain()
    torch.cuda.set_sync_debug_mode("default")
    found = {how: float(tensor) for how, tensor in reduced.items()}
    numbers = [number % 7 for number in range(600)]
    assert found == {"last": numbers[-1], "mean": pytest.approx(np.mean(numbers)), "min": 0.0, "max": 6.0}


def test_the_ends_of_episodes_are_counted_without_synchronising(no_synchronisation: None) -> None:
    generator = torch.Generator(device="cuda").manual_seed(3)
    counted, there = Episodes(resets_in_a_step=False), DeviceEpisodes(resets_in_a_step=False)
    steps = []
    for _ in range(50):
        rewards = torch.randn(64, 1, device="cuda", generator=generator)
        ended = torch.rand(64, 1, device="cuda", generator=generator) < 0.1
        there.add(rewards)
        steps.append((rewards, ended, *there.end(ended, torch.zeros_like(ended))))
    unfinished = there.unfinished()
    torch.cuda.set_sync_debug_mode("default")
    for rewards, ended, left, close in steps:
        counted.add(rewards.cpu())
        on_host = counted.end(ended.cpu(), torch.zeros_like(ended).cpu())
        found = close(left.cpu())
        assert [(episode.env, episode.length) for episode in found] == [(it.env, it.length) for it in on_host]
        assert [episode.total for episode in found] == pytest.approx([it.total for it in on_host], abs=1e-9)
    assert float(unfinished) == pytest.approx(counted.unfinished(), abs=1e-9)
