"""Raw pixels on disk: .npy files of uint8 whose header can be rewritten once the number of frames is known.

They lie in the order in which the caller had them in memory, channels last or first, because turning them round takes
several times as long as writing them. A last axis of 1, 3 or 4 means channels last; where that would be wrong, they
are turned after all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from rl_logging.media.errors import MediaError
from rl_logging.media.pixels import CHANNELS, SIDE_MOST, Pixels
from rl_logging.media.staging import commit, discard, staging_path

CHUNK_BYTES: Final = 4 << 20

# Every header is this long, whatever the shape, so that the final one fits where the first one was.
_HEADER_BYTES: Final = 128
_MAGIC: Final = b"\x93NUMPY\x01\x00"


class Layout(NamedTuple):
    """How the pixels of one frame lie in a file."""

    height: int
    width: int
    channels: int
    channels_first: bool

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """The shape of a frame in the file."""
        if self.channels_first:
            return self.channels, self.height, self.width
        return self.height, self.width, self.channels

    @property
    def frame_bytes(self) -> int:
        """The size of a frame."""
        return self.height * self.width * self.channels

    @classmethod
    def for_pixels(cls, pixels: Pixels) -> Layout:
        """Returns the layout in which frames like `pixels`, shape (…, H, W, C), are written fastest."""
        height, width, channels = pixels.shape[-3:]
        turned = np.moveaxis(pixels, -1, -3)
        first = not pixels.flags.c_contiguous and turned.flags.c_contiguous and width not in CHANNELS
        return cls(height, width, channels, first)

    @classmethod
    def of_stored(cls, shape: tuple[int, ...]) -> Layout:
        """Returns the layout of a frame of `shape` in a file.

        Raises:
            MediaError: There is none.
        """
        first = shape[-1] not in CHANNELS
        channels, height, width = shape if first else (shape[-1], *shape[:-1])
        if channels not in CHANNELS or not (1 <= height <= SIDE_MOST and 1 <= width <= SIDE_MOST):
            raise MediaError(f"the raw file is damaged: no frame has the shape {shape}")
        return cls(height, width, channels, first)

    def bytes_of(self, pixels: Pixels) -> memoryview:
        """Returns the bytes to write for `pixels` of shape (…, H, W, C)."""
        turned = np.moveaxis(pixels, -1, -3) if self.channels_first else pixels
        return np.ascontiguousarray(turned).reshape(-1).data

    def read(self, file: BinaryIO) -> Iterator[Pixels]:
        """Yields what is left in `file`, some whole frames at a time: shape (N, H, W, C), C-contiguous.

        Raises:
            MediaError: The last frame is not whole.
        """
        count = max(1, CHUNK_BYTES // self.frame_bytes)
        while chunk := file.read(count * self.frame_bytes):
            if len(chunk) % self.frame_bytes:
                raise MediaError("the raw file is damaged: it ends within a frame")
            frames = np.frombuffer(chunk, np.uint8).reshape(-1, *self.stored_shape)
            yield np.ascontiguousarray(np.moveaxis(frames, -3, -1)) if self.channels_first else frames


class RawFile:
    """A raw file while it is written; nothing is at `target` before `commit`.

    Args:
        target: Where it shall be; its folder is made.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self.staging = staging_path(target)
        self.bytes = 0
        try:
            self._file = open(self.staging, "wb")  # noqa: SIM115 - closed by commit or abort
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.staging, "wb")  # noqa: SIM115
        self._file.seek(_HEADER_BYTES)

    def write(self, pixels: memoryview) -> None:
        """Appends bytes as `Layout.bytes_of` gives them."""
        self._file.write(pixels)
        self.bytes += pixels.nbytes

    def commit(self, layout: Layout, frames: int | None = None) -> None:
        """Finishes the file: a picture, or a video of so many frames."""
        self._file.seek(0)
        self._file.write(_header(layout.stored_shape if frames is None else (frames, *layout.stored_shape)))
        self._file.close()
        commit(self.staging, self._target)

    def flush(self) -> None:
        """Has all that was written readable at `staging`."""
        self._file.flush()

    def abort(self) -> None:
        """Leaves nothing behind."""
        try:
            self._file.close()
        except OSError:  # what could not be written is not wanted any more
            pass
        discard(self.staging)


def read_header(file: BinaryIO, axes: int) -> tuple[int, Layout]:
    """Returns the number of frames and their layout, and leaves `file` at the first pixel.

    Args:
        file: A raw file.
        axes: 3 for a picture, 4 for a video.

    Raises:
        MediaError: It is no raw file of ours, or is cut short or longer than it says.
    """
    try:
        version = np.lib.format.read_magic(file)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # NumPy parses the header as a Python literal: damage shows in many ways
        raise MediaError(f"the raw file is damaged: {error}") from error
    if version != (1, 0) or fortran_order or dtype != np.uint8 or len(shape) != axes or min(shape) < 1:
        raise MediaError(f"the raw file is damaged: it holds {dtype} of shape {shape}")
    layout = Layout.of_stored(shape[-3:])
    frames = int(shape[0]) if axes == 4 else 1
    expected = frames * layout.frame_bytes
    present = os.fstat(file.fileno()).st_size - file.tell()
    if present != expected:
        raise MediaError(f"the raw file is damaged: shape {shape} takes {expected} bytes, it has {present}")
    return frames, layout


def skip_header(file: BinaryIO) -> None:
    """Moves to the first pixel of a file that is still being written."""
    file.seek(_HEADER_BYTES)


def _header(shape: tuple[int, ...]) -> bytes:
    described = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    body = described.ljust(_HEADER_BYTES - len(_MAGIC) - 3) + b"\n"
    return _MAGIC + len(body).to_bytes(2, "little") + body
