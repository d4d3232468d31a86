from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from rl_logging.media import MediaError, dump_image, dump_video, ffmpeg, materialize
from rl_logging.records import Image, Video

RGB = np.random.default_rng(3).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def image(path: str) -> Image:
    return Image(seq=1, time=0.0, name="x", path=path)


def video(path: str) -> Video:
    return Video(seq=1, time=0.0, name="x", path=path)


def test_neither_the_file_nor_its_dump(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"media/s.png: neither it nor its raw dump"):
        materialize(tmp_path, image("media/s.png"))


def test_a_file_that_is_there_is_returned_untouched(tmp_path: Path) -> None:
    (tmp_path / "s.png").write_bytes(b"anything")
    assert materialize(tmp_path, image("s.png")) == tmp_path / "s.png"
    assert (tmp_path / "s.png").read_bytes() == b"anything"


@pytest.mark.parametrize(
    "path", ["../s.png", "a/../../s.png", "/etc/passwd", "", "C:\\s.png", "..\\s.png", "a\\..\\..\\s.png", "a\0b.png"]
)
def test_a_path_that_leads_out(path: str, tmp_path: Path) -> None:
    (tmp_path / "s.png").write_bytes(b"secret")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with pytest.raises(MediaError, match="leads out"):
        materialize(run_dir, image(path))


@pytest.mark.parametrize("linked", ["s.png", "s.png.npy", "s.png.source", "media"])
def test_a_link_that_leads_out(linked: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    dump_image(RGB, outside, "s")
    (outside / "s.png").write_bytes(b"secret")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    if linked == "media":
        (run_dir / "media").symlink_to(outside)
    else:
        (run_dir / "media").mkdir()
        (run_dir / "media" / linked).symlink_to(outside / ("s.png.npy" if linked == "s.png.npy" else "s.png"))
    with pytest.raises(MediaError, match="by a link"):
        materialize(run_dir, image("media/s.png"))


def test_a_run_directory_reached_by_a_link_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    dump_image(RGB, tmp_path / "link" / "media", "s")
    assert materialize(tmp_path / "link", image("media/s.png")).is_file()


def _npy(array: np.ndarray, path: Path, **options: bool) -> None:
    with open(path, "wb") as file:
        np.save(file, array, **options)


@pytest.mark.parametrize("damage", ["short", "long", "magic", "header", "floats", "objects", "axes", "empty", "huge"])
def test_a_damaged_dump_is_told_and_kept(damage: str, tmp_path: Path) -> None:
    dump_image(RGB, tmp_path, "s")
    raw = tmp_path / "s.png.npy"
    data = raw.read_bytes()
    if damage == "short":
        raw.write_bytes(data[:-1])
    elif damage == "long":
        raw.write_bytes(data + b"x")
    elif damage == "magic":
        raw.write_bytes(b"x" + data[1:])
    elif damage == "header":
        raw.write_bytes(data[:20] + b"((((" + data[24:])
    elif damage == "floats":
        _npy(RGB / 255, raw)
    elif damage == "objects":
        _npy(np.array([[[print]]], dtype=object), raw)
    elif damage == "axes":
        _npy(RGB[None], raw)
    elif damage == "empty":
        raw.write_bytes(b"")
    else:
        raw.write_bytes(data[:128].replace(b"(40, 50, 3), }          ", b"(16384, 16384, 3), }    "))
    with pytest.raises(MediaError, match="damaged"):
        materialize(tmp_path, image("s.png"))
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "home"] == ["s.png.npy"]


def test_a_source_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff" + b"no jpeg" * 20)
    dump_image(tmp_path / "a.jpg", tmp_path / "m", "s")
    with pytest.raises(MediaError, match=r"s\.png\.source cannot be read as jpeg"):
        materialize(tmp_path, image("m/s.png"))
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + b"no gif")
    dump_video(tmp_path / "a.gif", tmp_path / "m", "v", 30)
    with pytest.raises(MediaError, match="encoder failed"):
        materialize(tmp_path, video("m/v.mp4"))
    assert sorted(entry.name for entry in (tmp_path / "m").iterdir()) == ["s.png.source", "v.mp4.source"]


def test_many_threads_make_one_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    class Counted(ffmpeg.Mp4Writer):
        def __init__(self, encoder: ffmpeg.Encoder, path: Path, *arguments: Any) -> None:
            made.append(path)
            super().__init__(encoder, path, *arguments)

    monkeypatch.setattr(ffmpeg, "Mp4Writer", Counted)
    dump_video(np.broadcast_to(RGB, (40, *RGB.shape)), tmp_path, "s", 30)
    start = threading.Barrier(6)
    paths: list[Path] = []

    def work() -> None:
        start.wait(60)
        paths.append(materialize(tmp_path, video("s.mp4")))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert paths == [tmp_path / "s.mp4"] * 6
    assert len(made) == 1
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "home"] == ["s.mp4"]


def test_several_processes_make_the_same_files(tmp_path: Path) -> None:
    for number in range(30):
        dump_image(RGB, tmp_path / "m", f"s{number}")
    code = """
import sys
from pathlib import Path
from rl_logging.media import materialize
from rl_logging.records import Image
print("ready", flush=True)
sys.stdin.readline()
for number in range(30):
    materialize(Path(sys.argv[1]), Image(seq=1, time=0.0, name="x", path=f"m/s{number}.png"))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=180)
        assert process.returncode == 0
    names = sorted(os.listdir(tmp_path / "m"))
    assert names == sorted(f"s{number}.png" for number in range(30))
    with PIL.Image.open(tmp_path / "m" / "s29.png") as opened:
        np.testing.assert_array_equal(np.asarray(opened), RGB)
