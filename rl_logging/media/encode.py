"""Making PNG, MP4 and GIF files from raw pixels and from files of other formats."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps

from rl_logging.media import ffmpeg
from rl_logging.media.errors import MediaError
from rl_logging.media.kinds import DEMUXERS, PILLOW_FORMATS, kind_of
from rl_logging.media.pixels import Pixels
from rl_logging.media.raw import Layout, read_header

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def png_from_raw(raw: Path, target: Path) -> None:
    """Encodes a raw picture.

    Raises:
        MediaError: The raw file is damaged.
        OSError: It is not there, or the disk is full.
    """
    with open(raw, "rb") as file:
        _, layout = read_header(file, axes=3)
        next(_pictures(file, layout)).save(target, format="PNG")


def png_from_file(source: Path, target: Path) -> None:
    """Converts a picture of another format, upright as its EXIF data says.

    Raises:
        MediaError: It cannot be read.
        OSError: It is not there, or the disk is full.
    """
    kind = kind_of(source)
    if kind not in PILLOW_FORMATS:
        raise MediaError(f"{source.name} is no picture")
    try:
        with Image.open(source, formats=[PILLOW_FORMATS[kind]]) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise MediaError(f"{source.name} cannot be read as {kind}: {error}") from error
    if upright.mode in ("P", "LA", "PA", "La"):
        upright = upright.convert("RGBA" if upright.mode != "P" or "transparency" in upright.info else "RGB")
    elif upright.mode not in ("1", "L", "RGB", "RGBA", "I", "I;16"):
        upright = upright.convert("L" if upright.mode == "F" else "RGB")
    upright.save(target, format="PNG")


def mp4_from_raw(encoder: ffmpeg.Encoder, raw: Path, fps: float, target: Path) -> None:
    """Encodes a raw video.

    Raises:
        MediaError: The raw file is damaged, or the encoder failed.
        OSError: It is not there, or the disk is full.
    """
    with open(raw, "rb") as file:
        _, layout = read_header(file, axes=4)
        writer = ffmpeg.Mp4Writer(encoder, target, (layout.height, layout.width, layout.channels), fps)
        try:
            for chunk in layout.read(file):
                writer.write(chunk)
            writer.close()
        except BaseException:
            writer.abort()
            raise


def mp4_from_file(encoder: ffmpeg.Encoder, source: Path, target: Path) -> None:
    """Converts a video of another format.

    Raises:
        MediaError: It cannot be read.
        OSError: It is not there, or the disk is full.
    """
    kind = kind_of(source)
    if kind not in DEMUXERS:
        raise MediaError(f"{source.name} is no video")
    ffmpeg.convert(encoder, source, DEMUXERS[kind], target)


def gif_from_raw(raw: Path, fps: float, target: Path) -> None:
    """Encodes a raw video as an animated GIF; rates above 50 a second are shown slower, as GIF has none.

    Raises:
        MediaError: The raw file is damaged.
        OSError: It is not there, or the disk is full.
    """
    with open(raw, "rb") as file:
        _, layout = read_header(file, axes=4)
        frames = _pictures(file, layout)
        first = next(frames)
        first.save(
            target,
            format="GIF",
            save_all=True,
            append_images=frames,
            duration=max(20, round(1000 / fps)),
            loop=0,
        )


def gif_from_file(source: Path, target: Path) -> None:
    """Takes a GIF as it is.

    Raises:
        MediaError: It is something else, for which an encoder is needed.
        OSError: It is not there, or the disk is full.
    """
    if kind_of(source) != "gif":
        raise MediaError(f"{source.name} needs an encoder to become an MP4: pip install 'rl-logging[video]'")
    shutil.copyfile(source, target)


def _pictures(file: BinaryIO, layout: Layout) -> Iterator[Image.Image]:
    for chunk in layout.read(file):
        for frame in chunk:
            yield _picture(frame)


def _picture(frame: Pixels) -> Image.Image:
    height, width, channels = frame.shape
    return Image.frombytes(_MODES[channels], (width, height), frame.tobytes())
