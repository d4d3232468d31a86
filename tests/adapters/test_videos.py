"""Real recorders in real chains of environments: each video is logged once, with the step at which its file closed."""

from __future__ import annotations

import copy
import gc
import importlib.util
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest

from rl_logging.adapters.video_hooks import ClosingHook
from rl_logging.adapters.videos import recorders, watch_env
from rl_logging.media.whole import is_whole
from rl_logging.testing import RecordingLogger
from rl_logging.videos import watch as video_watch

HAS_AUTORESET_MODES = hasattr(gym.vector, "AutoresetMode")

# Gymnasium warns of a folder that is there already; 0.x also of names that are looked up through wrappers.
pytestmark = pytest.mark.filterwarnings("ignore:.*(Overwriting existing videos|to get variables from other wrappers)")


@pytest.fixture
def logger() -> Iterator[RecordingLogger]:
    made = RecordingLogger()
    yield made
    made.finish()


@pytest.fixture(autouse=True)
def _drawn_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def cart_pole(max_episode_steps: int = 8) -> gym.Env:
    return gym.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=max_episode_steps)


def recorded(folder: Path, env: gym.Env | None = None, **options: Any) -> gym.Env:
    triggers = {} if "step_trigger" in options else {"episode_trigger": lambda episode: True}
    return gym.wrappers.RecordVideo(env or cart_pole(), str(folder), **{**triggers, "disable_logger": True, **options})


def play(env: Any, episodes: int, after_step: Any = None) -> None:
    for episode in range(episodes):
        env.reset(seed=episode)
        over = False
        while not over:
            _, _, terminated, truncated, _ = env.step(0)
            over = terminated or truncated
            if after_step is not None:
                after_step()


def logged(logger: RecordingLogger) -> list[tuple[str | None, int | None]]:
    return [(video.caption, video.step) for video in logger.videos]


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.mp4")}


def test_record_video_of_the_loggers_environment(tmp_path: Path) -> None:
    env = recorded(tmp_path / "v")
    logger = RecordingLogger({}, gym.wrappers.RecordEpisodeStatistics(env))
    steps: list[int] = []
    closed: list[int] = []
    logger.set_clock(lambda: len(steps))

    def after_step() -> None:
        if len(logger.videos) > len(closed):
            closed.append(len(steps))
        steps.append(1)

    play(env, 3, after_step)
    env.close()
    assert {caption for caption, _ in logged(logger)} == files(tmp_path / "v")
    assert len(logger.videos) == 3
    assert [video.name for video in logger.videos] == ["videos/rl-video"] * 3
    # Gymnasium 1.x closes an episode's file at the next reset, 0.x in its last step.
    for (_, step), seen in zip(logged(logger), closed, strict=False):
        assert step == seen
    for video in logger.videos:
        assert is_whole(logger.file_of(video))
        assert logger.file_of(video).read_bytes() == (tmp_path / "v" / str(video.caption)).read_bytes()
    logger.finish()
    assert len(logger.videos) == 3
    assert not logger.warnings
    assert not [name for name, value in vars(env).items() if isinstance(value, ClosingHook)]


def test_a_video_that_is_made_anew_is_logged_anew(logger: RecordingLogger, tmp_path: Path) -> None:
    shutil.copytree(made_before(tmp_path / "before"), tmp_path / "v")
    for _ in range(2):
        env = recorded(tmp_path / "v", cart_pole(12))
        watch_env(logger, env)
        watch_env(logger, env)  # an adapter that finds it again
        play(env, 1)
        env.close()
    # The second one shows the same and has the same bytes: it is the same video.
    assert [caption for caption, _ in logged(logger)] == ["rl-video-episode-0.mp4"]


def made_before(folder: Path) -> Path:
    env = recorded(folder)
    play(env, 1)
    env.close()
    return folder


@pytest.mark.skipif(not HAS_AUTORESET_MODES, reason="Gymnasium 0.x has no RecordVideo for vectors")
def test_record_video_of_gymnasiums_vectors(logger: RecordingLogger, tmp_path: Path) -> None:
    from gymnasium.wrappers.vector import RecordVideo

    makers = [lambda: recorded(tmp_path / "one"), cart_pole]
    envs = RecordVideo(
        gym.vector.SyncVectorEnv(makers), str(tmp_path / "all"), step_trigger=lambda step: step == 2, video_length=3
    )
    watch_env(logger, envs)
    assert len(list(recorders(envs))) == 2
    envs.reset(seed=0)
    for _ in range(12):
        envs.step(np.array([0, 1]))
    envs.close()
    assert sorted(caption or "" for caption, _ in logged(logger)) == sorted(
        [*files(tmp_path / "one"), *files(tmp_path / "all")]
    )
    assert "rl-video-step-2.mp4" in files(tmp_path / "all")


@pytest.mark.skipif(not HAS_AUTORESET_MODES, reason="Gymnasium 0.x has no RecordVideo for vectors")
@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
@pytest.mark.parametrize("around", ["one", "all"])
@pytest.mark.filterwarnings("ignore:.*autoreset mode is same-step")
def test_a_vectors_videos_have_the_step_that_ended_their_episode(
    logger: RecordingLogger, tmp_path: Path, mode: str, around: str
) -> None:
    makers = [lambda: recorded(tmp_path / "v") if around == "one" else cart_pole(), cart_pole]
    envs: Any = gym.vector.SyncVectorEnv(makers, autoreset_mode=getattr(gym.vector.AutoresetMode, mode))
    if around == "all":
        envs = gym.wrappers.vector.RecordVideo(envs, str(tmp_path / "v"), episode_trigger=lambda episode: True)
    watch_env(logger, envs)
    taken = 0
    logger.set_clock(lambda: 2 * taken)
    ended: list[int] = []
    envs.reset(seed=0)
    for _ in range(20):
        _, _, terminated, truncated, _ = envs.step(np.array([0, 1]))
        taken += 1  # as an adapter, which counts a step that it has got
        if terminated[0] or truncated[0]:
            ended.append(2 * taken)
    assert len(ended) >= 2
    steps = [step for _, step in logged(logger)]
    assert steps == ended[: len(steps)]
    assert len(steps) >= len(ended) - 1
    envs.close()
    logger.finish()
    assert {caption for caption, _ in logged(logger)} == files(tmp_path / "v")


def test_a_recording_that_outlives_the_run_is_told(tmp_path: Path) -> None:
    env = recorded(tmp_path / "v", cart_pole(100))
    logger = RecordingLogger({}, env)
    env.reset(seed=0)
    env.step(0)
    logger.finish()
    env.close()
    assert not logger.videos
    (told,) = logger.warnings
    assert "close the environment first" in told
    assert files(tmp_path / "v") == {"rl-video-episode-0.mp4"}


def test_a_copy_of_the_recorder_is_nobodys(logger: RecordingLogger, tmp_path: Path) -> None:
    env = recorded(tmp_path / "v")
    watch_env(logger, env)
    for copied in (copy.deepcopy(env), cloudpickle.loads(cloudpickle.dumps(env))):
        assert not [name for name, value in vars(copied).items() if isinstance(value, ClosingHook)]
        play(copied, 1)
        copied.close()
        assert files(tmp_path / "v")
    assert not logger.videos


def test_two_loggers_of_one_environment_each_have_its_videos(tmp_path: Path) -> None:
    env = recorded(tmp_path / "v")
    first, second = RecordingLogger({}, env), RecordingLogger({}, env)
    watch_env(first, env)
    play(env, 1)
    env.reset(seed=1)
    first.finish()
    play(env, 1)
    env.close()
    second.finish()
    assert len(first.videos) == 1
    assert len(second.videos) == len(files(tmp_path / "v"))


def test_an_environment_that_is_dropped_is_not_held(logger: RecordingLogger, tmp_path: Path) -> None:
    env = recorded(tmp_path / "v")
    watch_env(logger, env)
    held = weakref.ref(env)
    del env
    gc.collect()
    assert held() is None
    logger.finish()
    assert not logger.warnings


def test_what_has_no_recorder_is_left_alone(logger: RecordingLogger) -> None:
    for env in (None, 5, object(), cart_pole(), gym.vector.SyncVectorEnv([cart_pole])):
        watch_env(logger, env)
    assert not logger.warnings
    assert "_video_watch" not in vars(logger)


def test_an_environment_that_cannot_be_searched_is_told(logger: RecordingLogger, tmp_path: Path) -> None:
    env = recorded(tmp_path / "v")
    vars(env)["video_folder"] = "\0"
    watch_env(logger, env)
    play(env, 0)
    (told,) = logger.warnings
    assert "logger.watch_videos(folder)" in told


# Trainings.


def test_stable_baselines3_with_its_own_recorder_and_gymnasiums(logger: RecordingLogger, tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3", exc_type=ImportError)
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv, VecVideoRecorder

    venv = VecVideoRecorder(
        DummyVecEnv([lambda: recorded(tmp_path / "one", cart_pole(50), name_prefix="one"), lambda: cart_pole(50)]),
        str(tmp_path / "all"),
        record_video_trigger=lambda step: step in (0, 20),
        video_length=5,
        name_prefix="all",
    )
    model = PPO("MlpPolicy", venv, n_steps=16, batch_size=32, n_epochs=1, policy_kwargs={"net_arch": [8]}, device="cpu")
    model.learn(128, callback=logger.get_callbacks())
    venv.close()
    logger.finish()
    ours = [(caption, step) for caption, step in logged(logger) if caption and caption.startswith("all")]
    # The fifth step after its first frame closes each, before the algorithm counts that step of two environments.
    assert ours == [("all-step-0-to-step-5.mp4", 2 * 4), ("all-step-20-to-step-25.mp4", 2 * 24)]
    one = {caption for caption, _ in logged(logger)} - {caption for caption, _ in ours}
    assert one == files(tmp_path / "one")
    assert len(logger.videos) == len(ours) + len(one)


def test_stable_baselines3_in_worker_processes(
    logger: RecordingLogger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("stable_baselines3", exc_type=ImportError)
    from stable_baselines3.common.vec_env import SubprocVecEnv, VecMonitor

    monkeypatch.setattr(video_watch, "LOOK_S", 0.05)
    folder = tmp_path / "v"
    venv = VecMonitor(SubprocVecEnv([cart_pole, lambda: recorded(folder)], start_method="fork"))
    try:
        watch_env(logger, venv)
        venv.reset()
        for _ in range(20):
            venv.step(np.zeros(2, int))
    finally:
        venv.close()
    logger.finish()
    assert len(files(folder)) >= 2
    assert {caption for caption, _ in logged(logger)} == files(folder)
    assert len(logger.videos) == len(files(folder))
    assert not logger.warnings


@pytest.mark.skipif(not hasattr(gym.Env, "has_wrapper_attr"), reason="Gymnasium 0.x has no question that is safe")
def test_recorders_in_gymnasiums_worker_processes(
    logger: RecordingLogger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_watch, "LOOK_S", 0.05)
    folder = tmp_path / "v"
    makers = [lambda index=index: recorded(folder, name_prefix=f"env{index}") for index in range(2)]
    venv = gym.vector.AsyncVectorEnv(makers)
    try:
        watch_env(logger, gym.wrappers.vector.RecordEpisodeStatistics(venv))
        venv.reset()
        for _ in range(20):
            venv.step(np.zeros(2, int))
    finally:
        venv.close()
    logger.finish()
    assert len(files(folder)) >= 4
    assert {caption for caption, _ in logged(logger)} == files(folder)
    assert len(logger.videos) == len(files(folder))
    assert not logger.warnings


@pytest.mark.skipif(not hasattr(gym.Env, "has_wrapper_attr"), reason="Gymnasium 0.x has no question that is safe")
def test_a_recorder_in_only_some_of_gymnasiums_worker_processes_is_told_of(
    logger: RecordingLogger, tmp_path: Path
) -> None:
    venv = gym.vector.AsyncVectorEnv([lambda: recorded(tmp_path / "v"), cart_pole])
    without = gym.vector.AsyncVectorEnv([cart_pole])
    try:
        venv.reset()
        venv.step_async(np.zeros(2, int))
        watch_env(logger, venv)
        venv.step_wait()
        (busy,) = logger.warnings
        assert "logger.watch_videos(folder)" in busy
        watch_env(logger, venv)
        watch_env(logger, venv)
        watch_env(logger, without)
        venv.step(np.zeros(2, int))  # they go on
    finally:
        venv.close()
        without.close()
    watch_env(logger, venv)
    assert len(logger.warnings) == 2
    assert "1 of the 2 worker processes of AsyncVectorEnv have a video recorder" in logger.warnings[1]


def test_skrl_trains_in_a_recorded_environment(logger: RecordingLogger, tmp_path: Path) -> None:
    pytest.importorskip("skrl")
    from tests.support.skrl_training import Training

    training = Training("DQN", tmp_path / "skrl", num_envs=0)
    # As Isaac Lab's scripts do: RecordVideo around the environment, skrl's wrapper around that.
    inner = training.env._env
    training.env._env = recorded(
        tmp_path / "v", RenderedCartPole(inner), step_trigger=lambda step: step == 10, video_length=5
    )
    logger.attach(training.agent)
    training.trainer(40).train()
    training.env.close()
    ((caption, step),) = logged(logger)
    assert caption == "rl-video-step-10.mp4"
    assert step in (14, 15, 16)
    assert not [warning for warning in logger.warnings if "video" in warning]


class RenderedCartPole(gym.Wrapper):
    """Draws frames for an environment that was made without."""

    render_mode = "rgb_array"

    def render(self) -> np.ndarray:
        return np.zeros((32, 48, 3), np.uint8)


def test_moviepy_is_there() -> None:
    assert importlib.util.find_spec("moviepy"), (
        "without it no recorder of Gymnasium's works, and nothing here is tested"
    )
