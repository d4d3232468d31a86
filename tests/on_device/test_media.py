"""Pictures and videos on a device: nobody waits for them, and they are kept as they were at the call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rl_logging import ExperimentLogger
from rl_logging.records import Image, Metrics, Video
from rl_logging.run import arriving
from tests.support.cuda_stand_in import CudaTensor, Stream, on_cuda
from tests.support.journaled import records, warnings


def metrics(logger: ExperimentLogger) -> list[Metrics]:
    return records(logger, Metrics)


def media(logger: ExperimentLogger) -> list[Image | Video]:
    return records(logger, Image, Video)


def pixels(logger: ExperimentLogger, record: Any) -> Any:
    raw = np.load(logger.run_dir / f"{record.path}.npy")
    return raw if raw.shape[-1] == 3 else np.moveaxis(raw, -3, -1)


def test_a_picture_is_kept_when_it_has_arrived_with_its_calls_step_and_time(
    logger: ExperimentLogger, stream: Stream
) -> None:
    picture = torch.arange(5 * 7 * 3, dtype=torch.uint8).reshape(5, 7, 3)
    logger.log_image("view", picture.as_subclass(CudaTensor), step=3, caption="there")
    logger.log_metrics({"reward": 1.0}, step=4)
    assert media(logger) == []
    assert logger._last_run.on_device == 1
    stream.run()
    logger.flush(timeout=0)
    [record] = media(logger)
    assert (record.name, record.step, record.caption) == ("view", 3, "there")
    assert record.time < metrics(logger)[0].time
    assert (pixels(logger, record) == picture.numpy()).all()


@pytest.mark.parametrize("form", ["tensor", "list", "turned", "half"])
def test_videos_are_those_of_the_host(logger: ExperimentLogger, stream: Stream, form: str) -> None:
    frames = torch.rand(6, 3, 8, 10)
    if form == "half":
        frames = frames.bfloat16()
    if form == "turned":
        frames = frames.permute(0, 2, 3, 1)
    given: Any = frames.as_subclass(CudaTensor)
    logger.log_video("there", [*given] if form == "list" else given, step=1, fps=12)
    logger.log_video("here", [*frames] if form == "list" else frames, step=1, fps=12)
    frames.zero_()  # the caller goes on with its own
    stream.run()
    logger.flush(timeout=0)
    here, there = media(logger)
    assert (here.name, there.name, there.fps) == ("here", "there", 12)
    assert (pixels(logger, here) == pixels(logger, there)).all()
    assert pixels(logger, here).any()


def test_a_device_tensor_that_is_no_picture_is_told(
    logger: ExperimentLogger, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    logger.log_image("bad", on_cuda([[2.0, 3.0]]), step=1)
    logger.log_metrics({"loss": on_cuda(0.5)}, step=2)
    stream.run()
    logger.flush(timeout=0)
    assert media(logger) == []
    assert [row.step for row in metrics(logger)] == [2]
    assert any("log_image 'bad': not logged" in message and "[0, 1]" in message for message in warnings(caplog))


def test_pictures_beyond_the_pinned_memory_are_dropped_and_counted(
    logger: ExperimentLogger, stream: Stream, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "MOST_BYTES", 1000)
    picture = torch.zeros(16, 8, 3, dtype=torch.uint8).as_subclass(CudaTensor)
    for step in range(4):
        logger.log_image("view", picture, step=step)
    assert logger._last_run.lost == 2  # type: ignore[attr-defined]
    assert any("1,000 would be on their way at once" in message for message in warnings(caplog))
    stream.run()
    logger.log_image("view", picture, step=4)  # takes what has arrived, and so makes room
    stream.run()
    logger.flush(timeout=0)
    assert [record.step for record in media(logger)] == [0, 1, 4]


def test_a_picture_that_has_not_arrived_at_the_end_is_told(
    logger: ExperimentLogger, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    logger.log_image("view", torch.zeros(4, 4, dtype=torch.uint8).as_subclass(CudaTensor), step=1)
    assert not logger.flush(timeout=0)
    logger.finish(timeout=0)
    stream.run()
    assert media(logger) == []
    assert logger._last_run.lost == 1  # type: ignore[attr-defined]
    assert any("1 records had not arrived" in message for message in warnings(caplog))
