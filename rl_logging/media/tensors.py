"""Pictures and videos as torch's `SummaryWriter` takes them: axes by letter, batches as one grid, values clipped.

The result is uint8, channels last, as `rl_logging.media.dump_image` and `dump_video` read a NumPy array.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rl_logging.media.errors import MediaError
from rl_logging.media.pixels import CHANNELS, Pixels, as_array

COLUMNS: Final = 8
"""Pictures in one row of a batch's grid, as in torch's."""


def picture_of(tensor: Any, axes: str) -> Pixels:
    """Returns a picture of shape (H, W) or (H, W, C).

    Args:
        tensor: An array or tensor; uint8, bool, integers in 0..255 or floats in [0, 1]. What lies outside is clipped
            and NaN is 0.
        axes: What its axes are: letters of ``NCHW`` in any order and case, with H and W among them. A batch (N) is
            laid out in rows of `COLUMNS`.

    Raises:
        MediaError: The axes are not those of `tensor`, or C is none of 1, 3 and 4.
    """
    array = as_array(tensor)
    letters = axes.upper()
    if not {"H", "W"} <= set(letters) <= set("NCHW") or len(set(letters)) != len(letters):
        raise MediaError(f"dataformats: got {axes!r}, may be letters of 'NCHW', each once, with H and W among them")
    if array.ndim != len(letters):
        raise MediaError(f"got shape {array.shape}, which has not the axes {axes!r}: give them as dataformats")
    ordered = array.transpose([letters.index(axis) for axis in "NHWC" if axis in letters])
    if "C" in letters:
        _check_channels(ordered.shape[-1])
    pixels = clipped(ordered)
    if "N" not in letters:
        return pixels
    return grid(pixels if "C" in letters else pixels[..., None], COLUMNS)


def video_of(tensor: Any) -> Pixels:
    """Returns a video of shape (T, H, W, C).

    Args:
        tensor: Shape (N, T, C, H, W), or (T, C, H, W) for one; values as in `picture_of`. Several videos are shown
            beside each other, in a grid about as wide as high.

    Raises:
        MediaError: It has another shape.
    """
    array = as_array(tensor)
    if array.ndim == 4:
        array = array[None]
    if array.ndim != 5 or 0 in array.shape:
        raise MediaError(f"got shape {array.shape}: a video may be (N, T, C, H, W) or (T, C, H, W)")
    _check_channels(array.shape[2])
    return grid(clipped(np.moveaxis(array, 2, -1)), int(np.ceil(np.sqrt(len(array)))))


def grid(batch: Pixels, columns: int) -> Pixels:
    """Returns a batch of shape (N, …, H, W, C) as one (…, rows × H, columns × W, C); what is left over is black."""
    if len(batch) == 0:
        raise MediaError("got a batch of no pictures")
    columns = min(columns, len(batch))
    if columns == 1 == len(batch):
        return np.asarray(batch[0])
    rows = -(-len(batch) // columns)
    height, width = batch.shape[-3:-1]
    laid: Pixels = np.zeros((*batch.shape[1:-3], rows * height, columns * width, batch.shape[-1]), np.uint8)
    for number, single in enumerate(batch):
        row, column = divmod(number, columns)
        laid[..., row * height : (row + 1) * height, column * width : (column + 1) * width, :] = single
    return laid


def clipped(array: npt.NDArray[Any]) -> Pixels:
    """Returns an array's values as uint8: floats are taken for [0, 1], integers for 0..255."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind in "iu":
        return np.asarray(np.clip(array, 0, 255), np.uint8)
    scaled = np.rint(np.clip(np.nan_to_num(array, posinf=1.0, neginf=0.0), 0, 1) * np.float32(255))
    return np.asarray(scaled, np.uint8)


def _check_channels(count: int) -> None:
    if count not in CHANNELS:
        raise MediaError(f"got {count} channels: a picture may have 1, 3 or 4; its axes are given as dataformats")
