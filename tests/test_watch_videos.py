"""Videos that come to a folder, each logged once when it is whole."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rl_logging import ExperimentLogger
from rl_logging.media import ffmpeg
from rl_logging.media.whole import is_whole
from rl_logging.testing import RecordingLogger
from rl_logging.videos import folder as video_folder
from rl_logging.videos import watch as video_watch
from rl_logging.videos.folder import VideoFolder
from rl_logging.videos.watch import VideoWatch

BOUND_S = 60.0


def encode(path: Path, *, grey: int = 100, frames: int = 6, arguments: tuple[str, ...] = ()) -> Path:
    """Writes a video to `path`; by its suffix an MP4 or another."""
    encoder = ffmpeg.find()
    assert encoder is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = np.full((frames, 32, 48, 3), grey, np.uint8).tobytes()
    subprocess.run(
        [
            *(encoder.program, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "48x32"),
            *("-r", "10", "-i", "pipe:0", *arguments, str(path)),
        ],
        input=raw,
        check=True,
        timeout=180,
    )
    return path


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("made") / "made.mp4", arguments=("-c:v", "mpeg4"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("made") / "other.mp4", grey=30, arguments=("-c:v", "mpeg4"))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_watch, "LOOK_S", 0.02)
    monkeypatch.setattr(video_watch, "END_LOOK_S", 0.02)


@pytest.fixture
def logger() -> Iterator[RecordingLogger]:
    made = RecordingLogger()
    yield made
    made.finish()


def await_that(done: Callable[[], object]) -> None:
    until = time.monotonic() + BOUND_S
    while not done():
        assert time.monotonic() < until, "it never came"
        threading.Event().wait(0.01)


def watching() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "rl_logging-videos"}


def logged(logger: RecordingLogger) -> list[tuple[str, int | None, str | None]]:
    return [(video.name, video.step, video.caption) for video in logger.videos]


def test_videos_are_logged_as_they_come_each_once(
    logger: RecordingLogger, mp4: Path, other: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(mp4, folder / "earlier-episode-0.mp4")
    logger.watch_videos("videos")
    for number, source in enumerate((mp4, other, mp4)):
        logger.step = 100 * number
        shutil.copy(source, folder / f"run-episode-{number}.mp4")
        await_that(lambda count=number: len(logger.videos) == count + 1)
    logger.finish()
    assert logged(logger) == [("videos/run", 100 * number, f"run-episode-{number}.mp4") for number in range(3)]
    assert logger.file_of(logger.videos[1]).read_bytes() == other.read_bytes()
    assert not logger.warnings


def test_a_file_that_is_overwritten_is_another_if_it_differs(mp4: Path, other: Path, tmp_path: Path) -> None:
    target = shutil.copy(mp4, tmp_path / "a.mp4")
    os.utime(target, ns=(0, 0))  # a clock that files get their times of may tick every few milliseconds only
    folder = VideoFolder(tmp_path)
    assert settled(folder) == []
    shutil.copy(other, target)  # even one that was there before
    assert settled(folder) == [target]
    assert settled(folder) == []
    os.utime(target, ns=(1, 1))
    assert settled(folder) == []
    shutil.copy(mp4, target)
    assert settled(folder) == [target]


def settled(folder: VideoFolder) -> list[Path]:
    return [*folder.look(), *folder.look()]


def test_a_file_that_is_being_written_is_waited_for(mp4: Path, tmp_path: Path) -> None:
    folder = VideoFolder(tmp_path)
    content = mp4.read_bytes()
    target = tmp_path / "a.mp4"
    for share in (0, 10, len(content) // 2, len(content) - 1):
        target.write_bytes(content[:share])
        assert settled(folder) == []
        assert folder.unsettled == ["a.mp4"]
    target.write_bytes(content)
    assert folder.look() == []
    assert folder.look() == [target]
    assert folder.unsettled == []


def test_what_a_call_wrote_needs_no_second_look(mp4: Path, tmp_path: Path) -> None:
    folder = VideoFolder(tmp_path)
    shutil.copy(mp4, tmp_path / "of_another.mp4")
    before = folder.listing()
    written = shutil.copy(mp4, tmp_path / "mine.mp4")
    assert folder.look(before) == [written]
    assert folder.unsettled == ["of_another.mp4"]


@pytest.mark.parametrize("arguments", [(), ("-movflags", "+faststart"), ("-movflags", "+frag_keyframe+empty_moov")])
def test_an_mp4_is_whole_with_its_last_byte(arguments: tuple[str, ...], tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", arguments=("-c:v", "mpeg4", *arguments))
    assert is_whole(path)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert not is_whole(path)
    path.write_bytes(content + b"\0")
    assert not is_whole(path)


def test_an_mp4_that_the_encoder_is_writing_is_never_whole(tmp_path: Path) -> None:
    encoder = ffmpeg.find()
    assert encoder is not None
    path = tmp_path / "a.mp4"
    writer = ffmpeg.Mp4Writer(encoder, path, (256, 256, 3), 30)
    noise = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    for _ in range(60):
        writer.write(noise)
        assert not (path.exists() and path.stat().st_size and is_whole(path))
    writer.close()
    assert is_whole(path)


def test_other_formats(logger: RecordingLogger, tmp_path: Path) -> None:
    logger.watch_videos(tmp_path / "v", "demo")
    gif = encode(tmp_path / "v" / "b.gif")
    shutil.copy(encode(tmp_path / "c.avi", arguments=("-c:v", "mpeg4")), tmp_path / "v")  # its end cannot be seen
    (tmp_path / "v" / "notes.txt").write_text("no video")
    await_that(lambda: len(logger.videos) == 2)
    assert {video.name for video in logger.videos} == {"demo"}
    assert is_whole(gif)
    cut = tmp_path / "cut.gif"
    cut.write_bytes(gif.read_bytes()[:-1])
    assert not is_whole(cut)


def test_a_folder_may_come_later_or_never(logger: RecordingLogger, mp4: Path, tmp_path: Path) -> None:
    logger.watch_videos("late")
    logger.watch_videos("never")
    (tmp_path / "late").mkdir()
    shutil.copy(mp4, tmp_path / "late" / "0001.mp4")
    await_that(lambda: logger.videos)
    logger.finish()
    assert logged(logger) == [("videos/late", 0, "0001.mp4")]
    (told,) = logger.warnings
    assert f"there was no folder {tmp_path / 'never'}" in told


def test_the_last_look_finds_what_came_just_before(mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_watch, "LOOK_S", 3600.0)
    logger = RecordingLogger()
    logger.watch_videos(tmp_path / "v")
    (tmp_path / "v").mkdir()
    shutil.copy(mp4, tmp_path / "v" / "a.mp4")
    logger.finish()
    assert logged(logger) == [("videos/a", 0, "a.mp4")]
    await_that(lambda: not watching())


def test_a_file_that_never_is_whole_is_told_at_the_end(
    mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_watch, "END_S", 0.1)
    logger = RecordingLogger()
    logger.watch_videos(tmp_path)
    (tmp_path / "a.mp4").write_bytes(mp4.read_bytes()[:100])
    logger.finish()
    assert not logger.videos
    (told,) = logger.warnings
    assert "not logged, since still being written or damaged: a.mp4 in" in told


def test_folders_are_waited_for_together_at_the_end(mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    logger = RecordingLogger()
    for number in range(6):
        logger.watch_videos(tmp_path / str(number))
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "a.mp4").write_bytes(mp4.read_bytes()[:100])
    monkeypatch.setattr(video_watch, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    logger.finish()
    assert video_watch.END_S <= sum(slept) < video_watch.END_S + 2 * video_watch.END_LOOK_S
    assert len(logger.warnings) == 6


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_only_files_are_videos(logger: RecordingLogger, mp4: Path, tmp_path: Path) -> None:
    watched = tmp_path / "v"
    watched.mkdir()
    folder = VideoFolder(watched)
    os.mkfifo(watched / "pipe.mp4")
    (watched / "device.mp4").symlink_to(os.devnull)
    (watched / "folder.mp4").mkdir()
    (watched / "link.mp4").symlink_to(mp4)
    assert list(folder.listing()) == ["link.mp4"]
    assert settled(folder) == [watched / "link.mp4"]


class Held:
    """Stands in for `is_whole`, and holds whoever asks it for one file until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._file = file
        monkeypatch.setattr(video_folder, "is_whole", self)

    def __call__(self, path: Path) -> bool:
        if path.name == self._file and not self.begun.is_set():
            self.begun.set()
            assert self.go_on.wait(BOUND_S)
        return is_whole(path)


def test_nobody_waits_for_a_file_that_the_thread_reads(
    logger: RecordingLogger, mp4: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, "large.mp4")
    watch = VideoWatch.of(logger)
    polled = watch.add(tmp_path / "v", poll=True)
    hooked = watch.add(tmp_path / "w", poll=False)
    for folder in (polled, hooked):
        folder.path.mkdir()
    shutil.copy(mp4, polled.path / "large.mp4")
    assert held.begun.wait(BOUND_S)
    for folder in (polled, hooked):  # another folder, and the very same one
        before = folder.listing()
        shutil.copy(other, folder.path / "mine.mp4")
        in_time = threading.Thread(target=watch.look, args=(folder, before), daemon=True)
        in_time.start()
        in_time.join(BOUND_S)
        assert not in_time.is_alive()
    assert [caption for *_, caption in logged(logger)] == ["mine.mp4", "mine.mp4"]
    held.go_on.set()
    await_that(lambda: len(logger.videos) == 3)
    logger.finish()
    assert [caption for *_, caption in logged(logger)] == ["mine.mp4", "mine.mp4", "large.mp4"]
    assert not logger.warnings


def test_the_end_waits_for_a_video_that_the_thread_is_copying(
    mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_watch, "END_S", 0.0)
    logger = RecordingLogger()
    copying, go_on = threading.Event(), threading.Event()
    log_video = logger.log_video

    def slow(*args: object, **keywords: object) -> None:
        copying.set()
        assert go_on.wait(BOUND_S)
        log_video(*args, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(logger, "log_video", slow)
    logger.watch_videos(tmp_path / "v")
    (tmp_path / "v").mkdir()
    shutil.copy(mp4, tmp_path / "v" / "a.mp4")
    assert copying.wait(BOUND_S)
    sleep = time.sleep

    def let_go(seconds: float) -> None:
        go_on.set()  # the end waits: now the copy may be done
        sleep(seconds)

    monkeypatch.setattr(video_watch, "time", SimpleNamespace(monotonic=time.monotonic, sleep=let_go))
    logger.finish()
    assert logged(logger) == [("videos/a", 0, "a.mp4")]
    assert not logger.warnings


def test_what_the_thread_only_reads_at_the_end_is_logged_by_the_end(
    mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, "a.mp4")
    logger = RecordingLogger()
    logger.watch_videos(tmp_path / "v")
    (tmp_path / "v").mkdir()
    shutil.copy(mp4, tmp_path / "v" / "a.mp4")
    assert held.begun.wait(BOUND_S)
    sleep = time.sleep

    def let_go(seconds: float) -> None:
        held.go_on.set()
        sleep(seconds)

    monkeypatch.setattr(video_watch, "time", SimpleNamespace(monotonic=time.monotonic, sleep=let_go))
    logger.finish()
    assert logged(logger) == [("videos/a", 0, "a.mp4")]
    assert not logger.warnings


def test_a_look_within_a_look_takes_over(mp4: Path, tmp_path: Path) -> None:
    folder = VideoFolder(tmp_path)
    target = shutil.copy(mp4, tmp_path / "a.mp4")
    outer = folder.new({})
    assert next(outer) == target  # and a signal handler finishes the run before it is logged
    assert folder.look({}) == [target]
    assert list(outer) == []
    assert settled(folder) == [] == folder.unsettled
    assert not folder.busy


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("rl-video-episode-7.mp4", "videos/rl-video"),
        ("rl-video-step-2000.mp4", "videos/rl-video"),
        ("ppo-step-0-to-step-200.mp4", "videos/ppo"),
        ("run-3-episode-7.mp4", "videos/run-3"),
        ("eval_0012.mp4", "videos/eval"),
        ("agent.12.mp4", "videos/agent"),
        ("seed3.mp4", "videos/seed3"),
        ("0.mp4", "videos/folder"),
        ("final.mp4", "videos/final"),
    ],
)
def test_videos_that_differ_in_a_count_are_one_series(file: str, name: str, tmp_path: Path) -> None:
    folder = VideoFolder(tmp_path / "folder")
    assert folder.name_of(tmp_path / "folder" / file) == name
    assert VideoFolder(tmp_path, "mine").name_of(tmp_path / file) == "mine"


def test_an_unreadable_folder_is_told_once_and_ends_nothing(
    logger: RecordingLogger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: VideoFolder) -> dict[str, object]:
        raise PermissionError("not yours")

    watch = VideoWatch.of(logger)
    folder = watch.add(tmp_path, poll=False)
    monkeypatch.setattr(VideoFolder, "listing", broken)
    watch.look(folder)
    watch.look(folder)
    (told,) = logger.warnings
    assert "cannot be read: not yours" in told


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_looks_for_nothing(logger: RecordingLogger, mp4: Path, tmp_path: Path) -> None:
    watch = VideoWatch.of(logger)
    folder = watch.add(tmp_path, poll=False)
    shutil.copy(mp4, tmp_path / "a.mp4")
    with watch._lock, folder._lock:  # as another thread might hold it at that moment
        child = os.fork()
        if child == 0:
            try:
                watch.look(folder, {})
                os._exit(len(logger.videos))
            finally:
                os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    watch.look(folder, {})
    assert len(logger.videos) == 1


def test_a_finished_run_watches_nothing_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = ExperimentLogger(delivery="disabled", quiet=True, dir=tmp_path)
    logger.finish()
    before = watching()
    with caplog.at_level(logging.WARNING):
        logger.watch_videos(tmp_path)
    assert "the run is finished" in caplog.text
    assert watching() <= before
