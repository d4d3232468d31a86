"""What people record into stable-baselines3's logger that is no number: pictures, videos, hyperparameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Figure, HParam, Image, Video

KINDS = (Figure, HParam, Image, Video)


def log_media(logger: Any, key: str, value: Any, step: int) -> None:
    """Logs one of `KINDS`.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        key: Under which it was recorded.
        value: The object.
        step: The run's step.
    """
    if isinstance(value, HParam):
        logger.log_config({"hparams": dict(value.hparam_dict)})
    elif isinstance(value, Figure):
        logger.log_image(key, value.figure, step=step)
    elif isinstance(value, Video):
        logger.log_video(key, _side_by_side(_array(value.frames)), step=step, fps=float(value.fps))
    elif isinstance(value.image, str):
        logger.log_image(key, value.image, step=step)
    else:
        logger.log_image(key, _picture(_array(value.image), value.dataformats.upper()), step=step)


def _picture(image: Any, axes: str) -> Any:
    """Returns an image as (H, W), or with channels; `axes` says what its axes are, several images lie side by side."""
    if len(axes) != image.ndim or not {"H", "W"} <= set(axes) <= set("NCHW"):
        return image
    library = _library(image)
    wanted = [axis for axis in ("NCHW" if library is torch else "NHWC") if axis in axes]
    image = library.moveaxis(image, [axes.index(axis) for axis in wanted], list(range(len(wanted))))
    return _joined(image, wanted.index("W") - 1) if "N" in axes else image


def _side_by_side(frames: Any) -> Any:
    """Returns videos of shape (N, T, C, H, W) as one of shape (T, C, H, W)."""
    return _joined(frames, -1) if frames.ndim == 5 else frames


def _joined(pictures: Any, axis: int) -> Any:
    return _library(pictures).concatenate(list(pictures), axis)


def _library(value: Any) -> Any:
    """Returns whose functions take `value`; torch's leave it on its device, and nobody waits for it."""
    return torch if isinstance(value, torch.Tensor) else np


def _array(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else np.asarray(value)
