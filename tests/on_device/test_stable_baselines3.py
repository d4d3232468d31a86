"""Pictures and videos on a device that are recorded into stable-baselines3's own logger: nobody waits for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Image, Video

from rl_logging import ExperimentLogger
from rl_logging import records as kinds
from tests.support.cuda_stand_in import CudaTensor, Stream
from tests.support.journaled import records, warnings
from tests.support.sb3_callbacks import ppo

QUIET = ("stdout", "log", "csv", "tensorboard")
PICTURES = {"CHW": (3, 4, 5), "HWC": (3, 5, 3), "HW": (4, 5), "NCHW": (2, 3, 4, 5), "NHWC": (2, 4, 5, 3), "WH": (5, 4)}
VIDEOS = {"one": (1, 6, 3, 8, 10), "two": (2, 6, 3, 8, 10)}


def there(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone().as_subclass(CudaTensor)


class Recorder(BaseCallback):
    """Records the same pictures and videos as they are, and as `place` has them."""

    def __init__(self, place: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.place = place

    def _on_step(self) -> bool:
        if self.num_timesteps == 10:
            for axes, shape in PICTURES.items():
                self._record(axes, torch.rand(shape), lambda image, axes=axes: Image(image, axes))
            for name, shape in VIDEOS.items():
                self._record(name, torch.rand(shape), lambda frames: Video(frames, fps=12))
        return True

    def _record(self, name: str, tensor: torch.Tensor, wrapped: Callable[[Any], Any]) -> None:
        self.logger.record(f"{name}/here", wrapped(tensor), exclude=QUIET)
        placed = self.place(tensor)
        self.logger.record(f"{name}/there", wrapped(placed), exclude=QUIET)
        if name == "HWC":
            self.logger.record(f"{name}/array", wrapped(tensor.numpy()), exclude=QUIET)


def pixels(logger: ExperimentLogger, record: Any) -> Any:
    """Returns the pixels with the channels last."""
    raw = np.load(logger.run_dir / f"{record.path}.npy")
    return raw if raw.shape[-1] in (1, 3) else np.moveaxis(raw, -3, -1)


def test_what_is_recorded_on_a_device_is_what_is_recorded_on_the_host(
    logger: ExperimentLogger, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    ppo().learn(32, callback=[Recorder(there), *logger.get_callbacks()])
    assert logger._last_run.on_device == len(PICTURES) + len(VIDEOS)
    assert stream.waits == 0
    stream.run()
    logger.flush(timeout=0)
    logged = {record.name: record for record in records(logger, kinds.Image, kinds.Video)}
    assert {record.step for record in logged.values()} == {10}
    for name in (*PICTURES, *VIDEOS):
        here, over_there = pixels(logger, logged[f"{name}/here"]), pixels(logger, logged[f"{name}/there"])
        assert (here == over_there).all(), name
        assert here.any(), name
    assert pixels(logger, logged["NCHW/here"]).shape == (4, 10, 3)
    assert pixels(logger, logged["two/here"]).shape == (6, 8, 20, 3)
    assert (pixels(logger, logged["HWC/array"]) == pixels(logger, logged["HWC/here"])).all()
    assert not [message for message in warnings(caplog) if "no sink" not in message]
