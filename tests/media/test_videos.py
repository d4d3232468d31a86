from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import PIL.Image
import pytest
import torch

from rl_logging import media
from rl_logging.media import MediaError, dump_video, ffmpeg, materialize
from rl_logging.records import Video


def moving_square(count: int = 12, height: int = 48, width: int = 64) -> np.ndarray:
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 2] = 90
    for number in range(count):
        frames[number, 8:24, 2 * number : 2 * number + 16] = (220, 30, 30)
    return frames


FRAMES = moving_square()


def deliver(run_dir: Path, frames: object, fps: float = 30.0, **options: Any) -> Path:
    name = dump_video(frames, run_dir / "media", "step_1", fps, **options)
    assert name == "step_1.mp4"
    path = materialize(run_dir, Video(seq=1, time=0.0, name="x", path=f"media/{name}", fps=fps))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "something is left lying about"
    return path


def probe(path: Path) -> str:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False).stderr


def decode(path: Path) -> tuple[float, np.ndarray]:
    """Returns the rate that the file declares, and its frames."""
    told = probe(path)
    declared = re.search(r"Video: h264 .*, (\d+)x(\d+).*, ([\d.]+) fps", told)
    assert declared, told
    width, height = int(declared[1]), int(declared[2])
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path), "-fps_mode", "passthrough"]
    frames = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, timeout=180, check=True
    ).stdout
    return float(declared[3]), np.frombuffer(frames, np.uint8).reshape(-1, height, width, 3)


def duration_s(path: Path) -> float:
    found = re.search(r"Duration: (\d+):(\d+):([\d.]+)", probe(path))
    assert found
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def assert_close(back: np.ndarray, expected: np.ndarray, most: float = 6.0) -> None:
    assert back.shape == expected.shape
    difference = np.abs(back.astype(float) - expected.astype(float))
    assert difference.mean() < most, difference.mean()


def test_a_video_plays_in_a_browser(tmp_path: Path) -> None:
    path = deliver(tmp_path, FRAMES, 29.97)
    fps, back = decode(path)
    assert fps == pytest.approx(29.97)
    told = probe(path)
    assert re.search(r"h264 \(.*\) \(avc1.*yuv420p\(tv, bt709", told), told
    assert_close(back, FRAMES)
    written = path.read_bytes()
    assert written.index(b"moov") < written.index(b"mdat"), "the index is not in front"


@pytest.mark.parametrize("colour", [(220, 30, 30), (30, 200, 40), (20, 40, 230), (255, 255, 255), (0, 0, 0)])
def test_colours_are_kept(colour: tuple[int, int, int], tmp_path: Path) -> None:
    back = decode(deliver(tmp_path, np.full((3, 32, 32, 3), colour, np.uint8)))[1]
    assert np.abs(back.astype(int) - colour).max() <= 4


@pytest.mark.parametrize("fps", [0.5, 12.5, 30, 59.94])
def test_the_rate_is_kept(fps: float, tmp_path: Path) -> None:
    path = deliver(tmp_path, FRAMES, fps)
    declared, back = decode(path)
    assert len(back) == len(FRAMES)
    assert declared == pytest.approx(fps, rel=1e-3)
    assert duration_s(path) == pytest.approx(len(FRAMES) / fps, abs=0.02)


def _generated() -> Iterator[np.ndarray]:
    yield from FRAMES


@pytest.mark.parametrize(
    "make",
    [
        lambda: FRAMES,
        lambda: FRAMES.transpose(0, 3, 1, 2),
        lambda: np.ascontiguousarray(FRAMES.transpose(0, 3, 1, 2)),
        lambda: FRAMES.transpose(0, 3, 1, 2)[None],
        lambda: FRAMES / 255,
        lambda: torch.from_numpy(FRAMES).permute(0, 3, 1, 2),
        lambda: torch.from_numpy(FRAMES / 255).permute(0, 3, 1, 2).contiguous().requires_grad_(),
        lambda: list(FRAMES),
        lambda: tuple(FRAMES),
        _generated,
        lambda: [PIL.Image.fromarray(frame) for frame in FRAMES],
        lambda: [torch.from_numpy(frame).permute(2, 0, 1) for frame in FRAMES],
        lambda: [np.dstack([frame, frame[..., :1]]) for frame in FRAMES],
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_every_form_of_a_video(make: Any, streamed: bool, tmp_path: Path) -> None:
    path = deliver(tmp_path, make(), raw_limit_bytes=3 * FRAMES[0].nbytes if streamed else 1 << 30)
    assert_close(decode(path)[1], FRAMES)


def test_grey_frames(tmp_path: Path) -> None:
    grey = FRAMES[..., 0].copy()
    for number, frames in enumerate([grey, grey[..., None], grey[:, None], grey > 100, list(grey)]):
        back = decode(deliver(tmp_path / str(number), frames))[1]
        expected = (grey > 100) * 255 if number == 3 else grey
        assert_close(back, np.repeat(expected[..., None], 3, axis=-1))


def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    odd = moving_square(5, 33, 51)
    back = decode(deliver(tmp_path, odd))[1]
    assert back.shape == (5, 34, 52, 3)
    assert_close(back, np.pad(odd, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge"))


def test_a_single_tiny_frame(tmp_path: Path) -> None:
    back = decode(deliver(tmp_path, np.full((1, 1, 1, 3), 255, np.uint8)))[1]
    assert back.shape == (1, 2, 2, 3)


def test_a_long_video_goes_into_the_encoder_at_once(tmp_path: Path) -> None:
    above = tmp_path / "above"
    dump_video(FRAMES, above, "s", 30, raw_limit_bytes=FRAMES[0].nbytes)
    assert [entry.name for entry in above.iterdir()] == ["s.mp4"]
    below = tmp_path / "below"
    dump_video(FRAMES, below, "s", 30, raw_limit_bytes=FRAMES.nbytes)
    assert [entry.name for entry in below.iterdir()] == ["s.mp4.npy"]


def _of(path: Path, *arguments: str) -> Path:
    source = ffmpeg.find()
    assert source is not None
    size = f"{FRAMES.shape[2]}x{FRAMES.shape[1]}"
    command = [source.program, "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", "10"]
    subprocess.run([*command, "-i", "pipe:0", *arguments, str(path)], input=FRAMES.tobytes(), check=True, timeout=180)
    return path


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.gif", ()),
        ("a.avi", ("-c:v", "mpeg4", "-q:v", "2")),
        ("a.mov", ("-c:v", "mpeg4", "-q:v", "2")),
        ("a.webm", ("-c:v", "libvpx", "-b:v", "2M")),
        ("a.mkv", ("-c:v", "mpeg4", "-q:v", "2")),
    ],
)
def test_other_files_are_converted_at_their_own_rate(name: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    source = _of(tmp_path / name, *arguments)
    path = deliver(tmp_path / "run", source)
    fps, back = decode(path)
    assert fps == pytest.approx(10)
    assert_close(back, FRAMES, most=15)
    assert source.exists()


def test_an_mp4_is_kept_byte_for_byte(tmp_path: Path) -> None:
    source = _of(tmp_path / "a.mp4", "-c:v", "mpeg4")
    path = deliver(tmp_path / "run", str(source))
    assert path.read_bytes() == source.read_bytes()


def test_encoding_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    assert deliver(tmp_path / "a", FRAMES).read_bytes() == deliver(tmp_path / "b", FRAMES).read_bytes()


def _ends_in_error() -> Iterator[np.ndarray]:
    yield FRAMES[0]
    raise RuntimeError("the renderer died")


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([], "no frames"),
        (np.zeros((0, 8, 8, 3), np.uint8), "no frames"),
        (np.zeros((8, 8, 3), np.uint8), "looks like one picture"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\)"),
        (np.zeros((2, 8, 8, 5), np.uint8), r"\(2, 8, 8, 5\)"),
        (np.zeros((2, 3, 8, 8, 3), np.uint8), r"\(2, 3, 8, 8, 3\)"),
        (np.full((2, 8, 8, 3), 2.0), r"\[0, 1\]"),
        ([np.zeros((8, 8, 3)), np.zeros((8, 9, 3))], r"frame 1 has shape \(8, 9, 3\)"),
        ([np.zeros((8, 8, 3)), np.full((8, 8, 3), np.nan)], r"frame 1: .*NaN"),
        (5, "int"),
        ({}, "dict"),
        (PIL.Image.new("RGB", (4, 4)), "one PIL image"),
        ("nowhere.mp4", "no such file"),
    ],
)
def test_what_is_no_video_is_told_and_leaves_nothing(frames: object, says: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=says):
        dump_video(frames, tmp_path / "m", "s", 30)
    assert not (tmp_path / "m").exists() or not list((tmp_path / "m").iterdir())


@pytest.mark.parametrize("limit", [1, 1 << 30])
def test_an_iterator_that_raises_leaves_nothing(limit: int, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="renderer"):
        dump_video(_ends_in_error(), tmp_path / "m", "s", 30, raw_limit_bytes=limit)
    assert list((tmp_path / "m").iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("limit", [1, 1 << 30])
def test_a_process_killed_while_it_dumps_leaves_nothing_under_a_final_name(limit: int, tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
import numpy as np
from rl_logging.media import dump_video
def frames():
    for _ in range(5):
        yield np.full((64, 64, 3), 200, np.uint8)
    os.kill(os.getpid(), signal.SIGKILL)
dump_video(frames(), Path(sys.argv[1]), "s", 30, raw_limit_bytes=int(sys.argv[2]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "m"), str(limit)], timeout=180, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not list((tmp_path / "m").glob("s*"))
    with pytest.raises(MediaError, match="neither it nor its raw dump"):
        materialize(tmp_path, Video(seq=1, time=0.0, name="x", path="m/s.mp4"))


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 5000])
def test_a_rate_that_is_none(fps: float, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="fps"):
        dump_video(FRAMES, tmp_path, "s", fps)


def test_a_file_that_is_no_video_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("#EXTM3U\nfile:///etc/passwd")
    with pytest.raises(MediaError, match="is no video"):
        dump_video(tmp_path / "a.mp4", tmp_path / "m", "s", 30)


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ffmpeg, "_programs", list)
    ffmpeg._find.cache_clear()
    media.materialize.__globals__["_told_of_gif"].clear()
    yield
    ffmpeg._find.cache_clear()


@pytest.mark.usefixtures("no_encoder")
def test_without_an_encoder_a_video_is_a_gif_and_it_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = deliver(tmp_path / "a", FRAMES, 10, raw_limit_bytes=1)
    deliver(tmp_path / "b", FRAMES, 10)
    assert path.name == "step_1.gif"
    assert materialize(tmp_path / "a", Video(seq=1, time=0.0, name="x", path="media/step_1.mp4")) == path
    with PIL.Image.open(path) as opened:
        assert opened.n_frames == len(FRAMES)
        assert opened.info["duration"] == 100
        opened.seek(5)
        assert_close(np.asarray(opened.convert("RGB")), FRAMES[5])
    assert [record.getMessage().count("rl-logging[video]") for record in caplog.records] == [1]


@pytest.mark.usefixtures("no_encoder")
def test_without_an_encoder_other_files_are_refused_with_the_remedy_and_kept(tmp_path: Path) -> None:
    (tmp_path / "a.avi").write_bytes(b"RIFF\x00\x00\x00\x00AVI LIST")
    name = dump_video(tmp_path / "a.avi", tmp_path / "m", "s", 30)
    with pytest.raises(MediaError, match=r"rl-logging\[video\]"):
        materialize(tmp_path, Video(seq=1, time=0.0, name="x", path=f"m/{name}"))
    assert (tmp_path / "m" / "s.mp4.source").exists()


def test_the_systems_ffmpeg_is_used_where_none_is_packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = imageio_ffmpeg.get_ffmpeg_exe()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ffmpeg").symlink_to(packaged)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def missing() -> str:
        raise RuntimeError("no ffmpeg exe could be found")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    found = ffmpeg.find()
    assert found is not None
    assert found.program == str(tmp_path / "bin" / "ffmpeg")
