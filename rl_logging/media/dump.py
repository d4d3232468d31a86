"""The caller's side: pixels are written as they are, at the speed of a copy; nothing is encoded.

Beside the final name ``<stem>.png`` or ``<stem>.mp4`` lies ``….npy`` (raw pixels) or ``….source`` (a file of another
format) until `rl_logging.media.materialize` has made the final one.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from rl_logging.media import ffmpeg
from rl_logging.media.errors import MediaError
from rl_logging.media.kinds import DEMUXERS, MP4, PILLOW_FORMATS, PNG, kind_of
from rl_logging.media.pixels import Pixels, as_bytes, is_pil, is_tensor, picture, video
from rl_logging.media.raw import CHUNK_BYTES, Layout, RawFile, skip_header
from rl_logging.media.staging import commit, discard, staged, staging_path

RAW_LIMIT_BYTES: Final = 256 << 20
# Without an encoder at hand a long video has to lie raw all the same, up to this.
RAW_MOST_BYTES: Final = 4 << 30
RAW_SUFFIX: Final = ".npy"
SOURCE_SUFFIX: Final = ".source"


def dump_image(image: object, folder: Path, stem: str) -> str:
    """Writes a picture's raw pixels, or copies its file.

    Args:
        image: Shape (H, W), (H, W, C) or (C, H, W) with C of 1, 3 or 4 (where both fit: channels last for NumPy,
            first for torch); uint8, bool, integers in 0..255 or floats in [0, 1]. Or a PIL image, a matplotlib
            figure (rendered now), or the path of a picture.
        folder: Where to; made if it is not there.
        stem: File name without suffix; nothing else may use it.

    Returns:
        The name of the file that will be: ``<stem>.png``.

    Raises:
        MediaError: It is no picture; the message says what it got and what it may be.
        OSError: It cannot be read or written.
    """
    name = f"{stem}.png"
    if isinstance(image, (str, os.PathLike)):
        _copy(Path(image), folder / name, PNG, PILLOW_FORMATS, "picture")
        return name
    if _is_figure(image):
        folder.mkdir(parents=True, exist_ok=True)
        with staged(folder / name) as staging:
            _render(image, staging)
        return name
    pixels = picture(image)
    layout = Layout.for_pixels(pixels)
    raw = RawFile(folder / (name + RAW_SUFFIX))
    try:
        raw.write(layout.bytes_of(pixels))
        raw.commit(layout)
    except BaseException:
        raw.abort()
        raise
    return name


def dump_video(frames: object, folder: Path, stem: str, fps: float, *, raw_limit_bytes: int = RAW_LIMIT_BYTES) -> str:
    """Writes a video's raw frames, or copies its file; a long one is encoded at once instead of filling the disk.

    Args:
        frames: Shape (T, H, W), (T, H, W, C) or (T, C, H, W), values as for `dump_image`; or an iterable of frames of
            one shape, each as for `dump_image`; or the path of a video.
        folder: Where to; made if it is not there.
        stem: File name without suffix; nothing else may use it.
        fps: Frames a second.
        raw_limit_bytes: How many bytes of raw frames may lie on disk.

    Returns:
        The name of the file that will be: ``<stem>.mp4``.

    Raises:
        MediaError: It is no video; the message says what it got and what it may be.
        OSError: It cannot be read or written.
    """
    if not (math.isfinite(fps) and 0.01 <= fps <= 1000):
        raise MediaError(f"fps: got {fps:g}, may be 0.01 to 1000")
    name = f"{stem}.mp4"
    if isinstance(frames, (str, os.PathLike)):
        _copy(Path(frames), folder / name, MP4, DEMUXERS, "video")
        return name
    writer = _FrameWriter(folder / name, fps, raw_limit_bytes)
    try:
        for chunk in _chunks(frames):
            writer.write(chunk)
        writer.commit()
    except BaseException:
        writer.abort()
        raise
    return name


class _FrameWriter:
    """Takes frames: raw below the limit, into the encoder beyond it, where there is one."""

    def __init__(self, target: Path, fps: float, raw_limit_bytes: int) -> None:
        self._target = target
        self._fps = fps
        self._limit_bytes = raw_limit_bytes
        self._frames = 0
        self._shape: tuple[int, ...] = ()
        self._layout: Layout | None = None
        self._encoded = staging_path(target)
        self._encoder: ffmpeg.Mp4Writer | None = None
        self._raw: RawFile | None = None

    def write(self, chunk: Pixels) -> None:
        """Takes frames of shape (N, H, W, C)."""
        shape = chunk.shape[1:]
        if self._layout is None:
            self._shape = shape
            self._layout = Layout.for_pixels(chunk)
            self._raw = RawFile(self._target.with_name(self._target.name + RAW_SUFFIX))
        elif shape != self._shape:
            raise MediaError(
                f"frame {self._frames} has shape {shape} and the first one {self._shape}, as (H, W, C): "
                "all frames of a video must have one shape"
            )
        self._frames += len(chunk)
        if self._raw is not None and self._raw.bytes + chunk.nbytes > self._limit_bytes:
            self._change_over(self._raw, self._layout, chunk.nbytes)
        if self._encoder is not None:
            self._encoder.write(chunk)
        elif self._raw is not None:
            self._raw.write(self._layout.bytes_of(chunk))

    def commit(self) -> None:
        """Puts the file in its place."""
        if self._layout is None:
            raise MediaError("got no frames: a video needs at least one")
        if self._encoder is not None:
            self._encoder.close()
            commit(self._encoded, self._target)
        elif self._raw is not None:
            self._raw.commit(self._layout, self._frames)

    def abort(self) -> None:
        """Leaves nothing behind."""
        if self._raw is not None:
            self._raw.abort()
        if self._encoder is not None:
            self._encoder.abort()
        discard(self._encoded)

    def _change_over(self, raw: RawFile, layout: Layout, more_bytes: int) -> None:
        encoder = ffmpeg.find()
        if encoder is None:
            if raw.bytes + more_bytes > RAW_MOST_BYTES:
                raise MediaError(
                    f"the video is larger than {RAW_MOST_BYTES >> 30} GiB and there is no encoder: "
                    "pip install 'rl-logging[video]'"
                )
            return
        self._encoder = ffmpeg.Mp4Writer(encoder, self._encoded, self._shape, self._fps)
        raw.flush()
        with open(raw.staging, "rb") as file:
            skip_header(file)
            for written in layout.read(file):
                self._encoder.write(written)
        raw.abort()
        self._raw = None


def _chunks(frames: Any) -> Iterator[Pixels]:
    """Yields (N, H, W, C) pixels, converted piece by piece so that memory stays small."""
    if is_pil(frames):
        raise MediaError("got one PIL image: a video may be a list of them, an array, or a path")
    if is_tensor(frames) or hasattr(frames, "__array__"):
        array = video(frames)
        rows = max(1, CHUNK_BYTES // array[0].size)
        for start in range(0, len(array), rows):
            yield as_bytes(array[start : start + rows])
        return
    if isinstance(frames, (bytes, dict)) or not isinstance(frames, Iterable):
        raise MediaError(
            f"got a {type(frames).__name__}: a video may be an array or tensor of shape (T, H, W), (T, H, W, C) or "
            "(T, C, H, W), an iterable of frames, or a path"
        )
    for number, frame in enumerate(frames):
        try:
            pixels = picture(frame)
        except MediaError as error:
            raise MediaError(f"frame {number}: {error}") from error
        yield pixels[None]


def _copy(source: Path, target: Path, kept: str, converted: Mapping[str, str], what: str) -> None:
    """Copies a file: to `target` where it is of the final kind already, else beside it, to be converted later."""
    if not source.is_file():
        raise MediaError(f"{source}: there is no such file")
    kind = kind_of(source)
    if kind != kept:
        if kind not in converted:
            raise MediaError(f"{source} is no {what}: it may be {', '.join([kept, *converted])}")
        target = target.with_name(target.name + SOURCE_SUFFIX)
    target.parent.mkdir(parents=True, exist_ok=True)
    with staged(target) as staging:
        shutil.copyfile(source, staging)


def _is_figure(value: object) -> bool:
    return hasattr(value, "savefig") and hasattr(value, "canvas")


def _render(figure: Any, path: Path) -> None:
    """Renders a figure now, since it changes; `savefig` needs no pyplot and puts the figure's canvas back.

    Drawing takes far longer than this compression.
    """
    figure.savefig(path, format="png", dpi=figure.dpi, pil_kwargs={"compress_level": 1})
