"""Pictures and videos on a device: nobody waits for them, and they are kept as they were at the call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from rl_logging import ExperimentLogger
from rl_logging.records import Image, Metrics, Video
from rl_logging.run import arriving, keeping
from tests.support.cuda_stand_in import WAIT_S, CudaTensor, Stream, on_cuda
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


@pytest.fixture
def waited_for(logger: ExperimentLogger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of the logger's accepts what arrives, as where the driver lets it."""
    monkeypatch.setattr(logger._last_run._arriving, "_may_wait", lambda: True)  # type: ignore[attr-defined]


class Writing:
    """A moment of the logger's thread in which it is held up: `reached`, until `go` is set.

    Args:
        then: What it is about to call.
        kind: Only where this is the first argument; None: always.
    """

    def __init__(self, then: Callable[..., Any], kind: str | None = None) -> None:
        self._then = then
        self._kind = kind
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if self._kind in (None, arguments[0]):
            self.reached.set()
            assert self.go.wait(WAIT_S)
        return self._then(*arguments, **keywords)


@pytest.mark.usefixtures("waited_for")
def test_a_video_that_is_being_written_at_the_end_is_counted(
    logger: ExperimentLogger, stream: Stream, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Any = logger._last_run
    written = Writing(keeping.keep_video)
    monkeypatch.setattr(keeping, "keep_video", written)
    logger.log_video("view", torch.zeros(3, 4, 4, dtype=torch.uint8).as_subclass(CudaTensor), step=1)
    logger.log_metrics({"loss": on_cuda(0.5)}, step=2)
    stream.run()
    assert written.reached.wait(WAIT_S)
    logger.finish(timeout=0)
    assert run.lost == 2
    assert any("2 records had not arrived" in message for message in warnings(caplog))
    written.go.set()
    run._arriving._thread.join(WAIT_S)
    assert (media(logger), metrics(logger), run.lost) == ([], [], 2)


@pytest.mark.usefixtures("waited_for")
def test_what_is_being_appended_at_the_end_is_kept(
    logger: ExperimentLogger, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Any = logger._last_run
    appended = Writing(run._journal.append, Image.kind)
    monkeypatch.setattr(run._journal, "append", appended)
    monkeypatch.setattr(arriving, "ADMITTED_S", WAIT_S)
    monkeypatch.setattr(run._arriving, "settle", lambda timeout_s: appended.go.set())  # the last moment but one
    logger.log_image("view", torch.zeros(4, 4, dtype=torch.uint8).as_subclass(CudaTensor), step=1)
    stream.run()
    assert appended.reached.wait(WAIT_S)
    logger.finish(timeout=0)
    assert ([record.step for record in media(logger)], run.lost) == ([1], 0)


@pytest.mark.usefixtures("waited_for")
def test_what_was_about_to_be_appended_when_the_journal_was_sealed_is_counted(
    logger: ExperimentLogger, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Any = logger._last_run
    appended = Writing(run._journal.append, Image.kind)
    monkeypatch.setattr(run._journal, "append", appended)
    monkeypatch.setattr(arriving, "ADMITTED_S", 0.0)
    logger.log_image("view", torch.zeros(4, 4, dtype=torch.uint8).as_subclass(CudaTensor), step=1)
    stream.run()
    assert appended.reached.wait(WAIT_S)
    logger.finish(timeout=0)
    appended.go.set()
    run._arriving._thread.join(WAIT_S)
    assert (media(logger), run.lost) == ([], 1)
