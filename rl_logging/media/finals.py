"""The delivery side: the final PNG or MP4 of a record, made once from what the caller dumped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from rl_logging.media import ffmpeg
from rl_logging.media.dump import RAW_SUFFIX, SOURCE_SUFFIX
from rl_logging.media.errors import MediaError
from rl_logging.media.staging import discard, staged
from rl_logging.records import Image, Video

log = logging.getLogger("rl_logging.media")

# Two destinations want the same video at about the same time; the second waits for the first one's file. Processes
# need no such lock: both would make the same file, and the rename is atomic.
_LOCKS: Final = tuple(threading.Lock() for _ in range(16))
_told_of_gif = threading.Event()

Make = Callable[[Path, Path], None]


def materialize(run_dir: Path, record: Image | Video) -> Path:
    """Returns the final file of `record`, made now if it was not made before.

    Safe from several threads and processes at once. The raw dump is removed when the final file is there.

    Args:
        run_dir: The run directory.
        record: An image or video of that run.

    Returns:
        An absolute path below `run_dir`: a PNG or MP4, or where there is no video encoder at all, an animated GIF.

    Raises:
        MediaError: There is neither the file nor what to make it from, that is damaged, or the record's path leads
            out of the run directory.
        OSError: The file cannot be written now.
    """
    target = _inside(run_dir, record.path)
    with _LOCKS[hash(target) % len(_LOCKS)]:
        found = _present(run_dir, target, record)
        if found is not None:
            return found
        try:
            return _make_video(run_dir, target, record) if isinstance(record, Video) else _make_image(run_dir, target)
        except FileNotFoundError as error:
            found = _present(run_dir, target, record)  # another process was faster, and has removed the raw dump
            if found is None:
                raise MediaError(f"{record.path}: neither it nor its raw dump is in {run_dir}") from error
            return found


def _present(run_dir: Path, target: Path, record: Image | Video) -> Path | None:
    candidates = [target, target.with_suffix(".gif")] if isinstance(record, Video) else [target]
    return next((path for path in candidates if _checked(run_dir, path).is_file()), None)


def _make_image(run_dir: Path, target: Path) -> Path:
    # Pillow is needed here only, and the training process shall not wait for its import.
    from rl_logging.media import encode

    return _make(run_dir, target, target, encode.png_from_raw, encode.png_from_file)


def _make_video(run_dir: Path, target: Path, record: Video) -> Path:
    from rl_logging.media import encode

    encoder = ffmpeg.find()
    if encoder is not None:
        return _make(
            run_dir,
            target,
            target,
            lambda raw, to: encode.mp4_from_raw(encoder, raw, record.fps, to),
            lambda source, to: encode.mp4_from_file(encoder, source, to),
        )
    if not _told_of_gif.is_set():
        _told_of_gif.set()
        log.warning("videos become animated GIFs: there is no encoder for MP4: pip install 'rl-logging[video]'")
    return _make(
        run_dir,
        target,
        target.with_suffix(".gif"),
        lambda raw, to: encode.gif_from_raw(raw, record.fps, to),
        encode.gif_from_file,
    )


def _make(run_dir: Path, named: Path, made: Path, from_raw: Make, from_file: Make) -> Path:
    for suffix, make in ((RAW_SUFFIX, from_raw), (SOURCE_SUFFIX, from_file)):
        dumped = named.with_name(named.name + suffix)
        if _checked(run_dir, dumped).is_file():
            with staged(made) as staging:
                make(dumped, staging)
            discard(dumped)
            return made
    raise FileNotFoundError(named)


def _inside(run_dir: Path, relative: str) -> Path:
    """Returns the absolute path of a record's file; a run directory may come from someone else."""
    parts = PurePosixPath(relative).parts
    foreign = PureWindowsPath(relative)
    if not parts or "\0" in relative or ".." in (*parts, *foreign.parts) or foreign.anchor or parts[0] == "/":
        raise MediaError(f"the path {relative!r} leads out of the run directory")
    return _checked(run_dir, run_dir.absolute().joinpath(*parts))


def _checked(run_dir: Path, path: Path) -> Path:
    if not path.resolve().is_relative_to(run_dir.resolve()):
        raise MediaError(f"{path} leads out of the run directory by a link")
    return path
