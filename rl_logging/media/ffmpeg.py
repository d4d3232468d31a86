"""The video encoder: an ffmpeg program, the one packaged with imageio-ffmpeg or the system's."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from rl_logging.media.errors import MediaError
from rl_logging.media.pixels import Pixels

END_S: Final = 600.0
CONVERT_S: Final = 3600.0

_PIXEL_FORMATS: Final = {1: "gray", 3: "rgb24", 4: "rgba"}
# Odd sizes have no yuv420p; browsers take untagged colours for BT.709, so they are made and tagged as that.
_EVEN: Final = "pad=ceil(iw/2)*2:ceil(ih/2)*2,"
_COLOURS: Final = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"
_OUTPUT: Final = (
    *("-an", "-sn", "-dn", "-map_metadata", "-1", "-threads", "1"),
    *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"),
    *("-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart", "-f", "mp4"),
)
_X264: Final = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p")
_OPENH264: Final = ("-c:v", "libopenh264", "-b:v", "4M", "-pix_fmt", "yuv420p")
_QUIET: Final = ("-hide_banner", "-loglevel", "error", "-y")


class Encoder:
    """An ffmpeg that can make H.264.

    Args:
        program: Its path.
        codec: The arguments that choose its H.264 encoder.
    """

    def __init__(self, program: str, codec: Sequence[str]) -> None:
        self.program = program
        self.codec = tuple(codec)


def find() -> Encoder | None:
    """Returns the encoder to use; None where there is none."""
    return _find(os.environ.get("PATH"), os.environ.get("IMAGEIO_FFMPEG_EXE"))


@functools.lru_cache(maxsize=4)
def _find(path: str | None, chosen: str | None) -> Encoder | None:
    # The arguments are what the answer depends on; asking a program what it can do takes a tenth of a second.
    del path, chosen
    for program in _programs():
        try:
            listed = subprocess.run(
                [program, "-hide_banner", "-encoders"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=20,
                check=False,
                text=True,
                errors="replace",
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            continue
        for name, codec in (("libx264", _X264), ("libopenh264", _OPENH264)):
            if f" {name} " in listed:
                return Encoder(program, codec)
    return None


def _programs() -> list[str]:
    found: list[str] = []
    try:
        found.append(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ImportError, RuntimeError):  # not installed, or installed without a program for this platform
        pass
    system = shutil.which("ffmpeg")
    return [*found, system] if system else found


class Mp4Writer:
    """Streams frames into an MP4 file: H.264, yuv420p, index in front, so that it plays in a browser at once.

    Args:
        encoder: The encoder.
        path: The file; it is whole when `close` has returned.
        shape: Of each frame: (H, W, C).
        fps: Frames a second.

    Raises:
        OSError: The encoder cannot be started.
    """

    def __init__(self, encoder: Encoder, path: Path, shape: Sequence[int], fps: float) -> None:
        height, width, channels = shape
        source = ("-f", "rawvideo", "-pix_fmt", _PIXEL_FORMATS[channels], "-s", f"{width}x{height}")
        # The added row or column repeats its neighbour: a black edge would be seen.
        smear = f"fillborders=right={width % 2}:bottom={height % 2}:mode=smear,"
        filters = ("-vf", (_EVEN + smear if width % 2 or height % 2 else "") + _COLOURS)
        timing = ("-framerate", f"{fps:.12g}", "-i", "pipe:0")
        # A file rather than a pipe: nobody reads it while frames are written, and a full pipe would block ffmpeg.
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(
                [encoder.program, *_QUIET, *source, *timing, *filters, *encoder.codec, *_OUTPUT, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                **_apart(),
            )
        except BaseException:
            self._complaints.close()
            raise

    def write(self, frames: Pixels) -> None:
        """Hands over frames of shape (N, H, W, C).

        Raises:
            MediaError: The encoder refused them.
            OSError: The disk is full.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(frames).reshape(-1).data)
        except OSError as error:
            raise self._failure() from error

    def close(self) -> None:
        """Finishes the file.

        Raises:
            MediaError: The encoder failed.
            OSError: The disk is full.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError as error:
            raise self._failure() from error
        try:
            code = self._process.wait(END_S)
        except subprocess.TimeoutExpired as error:
            raise MediaError(f"the video encoder did not end within {END_S:g} s") from error
        if code != 0:
            raise self._failure()
        self._complaints.close()

    def abort(self) -> None:
        """Ends the encoder; what it has written is no video. Harmless after `close`."""
        if self._process.poll() is None:
            self._process.kill()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process.wait()
        self._complaints.close()

    def _failure(self) -> Exception:
        self._await_end()
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").strip()
        return failure(said or f"exit code {self._process.returncode}")

    def _await_end(self) -> None:
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def convert(encoder: Encoder, source: Path, demuxer: str, target: Path) -> None:
    """Makes an MP4 of another video file, at its own rate.

    The demuxer is given, and may open nothing but that file: a playlist in disguise would be free to open others.

    Raises:
        MediaError: It cannot be read as that.
        OSError: The disk is full.
    """
    command = [
        *(encoder.program, "-nostdin", *_QUIET, "-threads", "1", "-protocol_whitelist", "file", "-f", demuxer),
        *("-i", f"file:{source}", "-vf", _EVEN + _COLOURS, *encoder.codec, *_OUTPUT, str(target)),
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=CONVERT_S, check=False, **_apart()
        )
    except subprocess.TimeoutExpired as error:
        raise MediaError(f"{source.name} could not be converted within {CONVERT_S:g} s") from error
    if done.returncode != 0:
        raise failure(done.stderr.decode(errors="replace").strip())


def failure(said: str) -> Exception:
    """Returns the error for what the encoder said."""
    if "No space left on device" in said or "Disk quota exceeded" in said:
        return OSError(errno.ENOSPC, f"the video encoder: {said[-300:]}")
    return MediaError(f"the video encoder failed: {said[-600:]}")


def _apart() -> dict[str, Any]:
    """Ctrl-C in the terminal is the training's to handle; the encoder ends when its input does."""
    if os.name == "nt":
        return {"creationflags": 0x08000000}  # CREATE_NO_WINDOW
    return {"start_new_session": True}
