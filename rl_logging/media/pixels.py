"""Turning what people call a picture or a video into bytes of pixels.

The result is always uint8 of shape (H, W, C), C of 1 (grey), 3 (RGB) or 4 (RGB and alpha); it may be a view.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rl_logging.media.errors import MediaError

Pixels = npt.NDArray[np.uint8]

CHANNELS: Final = (1, 3, 4)
SIDE_MOST: Final = 16_384
# Interpolation and float16 leave [0, 1] by this much; half a grey level is 0.002.
TOLERANCE: Final = 1e-3

_PICTURE: Final = "a picture may be (H, W), (H, W, C) or (C, H, W) with C of 1, 3 or 4"
_VIDEO: Final = "a video may be (T, H, W), (T, H, W, C) or (T, C, H, W) with C of 1, 3 or 4"
_VALUES: Final = "uint8, bool, integers in 0..255, or floats in [0, 1]"
_PIL_MODES: Final = {"1": "L", "L": "L", "RGB": "RGB", "RGBA": "RGBA", "LA": "RGBA", "PA": "RGBA", "La": "RGBA"}


def picture(image: Any) -> Pixels:
    """Returns the pixels of a NumPy array, tensor, nested list or PIL image.

    Args:
        image: Shape (H, W), (H, W, C) or (C, H, W); where both of the last two fit, an array is taken for (H, W, C)
            and a torch tensor for (C, H, W), as their own libraries do.

    Raises:
        MediaError: It is something else.
    """
    if is_pil(image):
        return as_bytes(_last_channels(_from_pil(image), channels_first=False))
    array = as_array(image)
    if array.ndim not in (2, 3):
        raise MediaError(f"got {_told(array)}: {_PICTURE}")
    return as_bytes(_last_channels(array, channels_first=is_tensor(image)))


def video(frames: Any) -> npt.NDArray[Any]:
    """Returns a view of shape (T, H, W, C) of an array or tensor, its values as they are.

    A leading batch axis of one, (1, T, C, H, W), is taken off.

    Raises:
        MediaError: It is something else.
    """
    array = as_array(frames)
    if array.ndim == 5 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[-1] in CHANNELS:
        raise MediaError(f"got {_told(array)}, which looks like one picture: {_VIDEO}; one frame is frames[None]")
    if array.ndim not in (3, 4):
        raise MediaError(f"got {_told(array)}: {_VIDEO}")
    if array.shape[0] == 0:
        raise MediaError(f"got {_told(array)}, which has no frames: {_VIDEO}")
    return _last_channels(array, channels_first=is_tensor(frames), of_video=True)


def as_bytes(array: npt.NDArray[Any]) -> Pixels:
    """Returns `array` as uint8, its axes in memory as they were.

    Raises:
        MediaError: Its values are no pixels.
    """
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return array
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if kind not in "iuf":
        raise MediaError(f"got {_told(array)}: values may be {_VALUES}")
    low, high = float(array.min()), float(array.max())
    if kind in "iu":
        if low < 0 or high > 255:
            raise MediaError(f"got {_told(array)} with values from {low:g} to {high:g}: values may be {_VALUES}")
        return array.astype(np.uint8)
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        raise MediaError(f"got {_told(array)} with {_range_told(low, high)}")
    scaled: npt.NDArray[np.float32] = np.rint(np.clip(array, 0, 1).astype(np.float32, copy=False) * np.float32(255))
    return scaled.astype(np.uint8)


def as_array(value: Any) -> npt.NDArray[Any]:
    """Returns a NumPy array that shares `value`'s memory where it can.

    Raises:
        MediaError: It is no array of numbers.
    """
    if is_tensor(value):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # which NumPy has not
            value = value.float()
        return np.asarray(value.numpy())
    if value is None or isinstance(value, (str, bytes, dict, set)):
        raise MediaError(f"got a {type(value).__name__}: {_PICTURE}; {_VALUES}; or PIL, a matplotlib figure, a path")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise MediaError(f"got a {type(value).__name__} that is no array: {error}") from error
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        raise MediaError(f"got a {type(value).__name__} of {array.dtype}: {_PICTURE}; {_VALUES}")
    return array


def is_tensor(value: object) -> bool:
    """Whether `value` is a torch tensor, known by what it can do."""
    return all(hasattr(value, name) for name in ("detach", "cpu", "numpy"))


def is_pil(value: object) -> bool:
    """Whether `value` is a PIL image; without PIL imported there can be none."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def _from_pil(image: Any) -> npt.NDArray[Any]:
    if image.mode.startswith(("I", "F")):
        return np.asarray(image)  # wide values: judged as an array's would be
    transparent = image.mode == "P" and "transparency" in image.info
    mode = "RGBA" if transparent else _PIL_MODES.get(image.mode, "RGB")
    return np.asarray(image if image.mode == mode else image.convert(mode))


def _last_channels(array: npt.NDArray[Any], *, channels_first: bool, of_video: bool = False) -> npt.NDArray[Any]:
    """Returns a view with the channels last; `channels_first` decides where both readings fit."""
    if array.ndim == 2 + of_video:
        moved = array[..., None]
    else:
        first, last = array.shape[-3] in CHANNELS, array.shape[-1] in CHANNELS
        if not (first or last):
            raise MediaError(f"got {_told(array)}: {_VIDEO if of_video else _PICTURE}")
        moved = np.moveaxis(array, -3, -1) if first and (channels_first or not last) else array
    height, width = moved.shape[-3:-1]
    if not (1 <= height <= SIDE_MOST and 1 <= width <= SIDE_MOST):
        raise MediaError(f"got {_told(array)}, {width} wide and {height} high: each may be 1 to {SIDE_MOST}")
    return moved


def _told(array: npt.NDArray[Any]) -> str:
    return f"shape {array.shape} of {array.dtype}"


def _range_told(low: float, high: float) -> str:
    if low != low or high != high:
        return f"NaN in it: values may be {_VALUES}"
    spread = f"values from {low:g} to {high:g}: floats may be in [0, 1]"
    if low >= -TOLERANCE and high <= 255:
        return f"{spread}; for 0..255 divide by 255, or give .astype('uint8')"
    return f"{spread}; scale them with (x - x.min()) / (x.max() - x.min())"
