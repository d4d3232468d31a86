"""Videos of episodes beside real trainings: encoded, and their frames decoded again."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from rl_logging.adapters.stable_baselines3 import MetricsCallback, VideoRecorderCallback
from rl_logging.media import materialize
from tests.support.sb3_callbacks import Corridor, cartpoles, dqn, open_run, ppo, small, videos


def filmed(**options: Any) -> Corridor:
    return Corridor(render_mode="rgb_array", **options)


def frames_of(run_dir: Path, record: Any) -> list[int]:
    """Returns an episode's time as each frame of its video tells it; see `Corridor.render`."""
    path = materialize(run_dir, record)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path), "-fps_mode", "passthrough"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "gray", "-"], capture_output=True, check=True).stdout
    movie = np.frombuffer(raw, np.uint8).reshape(-1, 16, 32)
    return [round((np.count_nonzero(frame[8] > 100) - 2) / 2) for frame in movie]


@pytest.mark.parametrize("n_envs", [1, 3])
def test_whole_episodes_are_recorded_every_so_many_environment_steps(n_envs: int, tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        env = filmed()
        callback = VideoRecorderCallback(logger, env, every_steps=50, episodes=2)
        ppo(make_vec_env(Corridor, n_envs=n_envs)).learn(120, callback=callback)
        found = videos(logger)
        due = [
            -(-multiple // n_envs) * n_envs for multiple in range(50, 32 * n_envs * -(-120 // (32 * n_envs)) + 1, 50)
        ]
        assert [(record.step, record.name) for record in found] == [
            (step, f"videos/episode_{number}") for step in due for number in range(2)
        ]
        assert {record.fps for record in found} == {7.0}
        # The first state and each one after it, the last too.
        frames = [frames_of(logger.run_dir, record) for record in found]
        assert frames == [list(range(length + 1)) for length in env.lengths]


def test_a_long_episode_is_cut(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        callback = VideoRecorderCallback(logger, filmed, every_steps=64, max_steps=3, fps=12.5, name="film")
        ppo(make_vec_env(Corridor, n_envs=2)).learn(64, callback=callback)
        (record,) = videos(logger)
        assert (record.name, record.fps) == ("film_0", 12.5)
        assert frames_of(logger.run_dir, record) == [0, 1, 2, 3]


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("make", [ppo, dqn])
def test_training_is_the_same_with_and_without_it(make: Any, deterministic: bool, tmp_path: Path) -> None:
    def train(callback: Any = None) -> dict[str, torch.Tensor]:
        model = make(Monitor(Corridor()))
        model.learn(130, callback=callback)
        return model.policy.state_dict()

    plain = train()
    with open_run(tmp_path) as logger:
        callback = VideoRecorderCallback(logger, filmed, every_steps=20, deterministic=deterministic)
        watched = train([MetricsCallback(logger), callback])
        assert len(videos(logger)) >= 6
    assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_the_environment_is_made_like_the_loggers_and_wrapped_like_the_trainings(tmp_path: Path) -> None:
    pytest.importorskip("pygame")
    env = VecNormalize(VecFrameStack(cartpoles(), 2))
    config = {"rl_logging": {"video": {"every_steps": 64, "max_steps": 4}}}
    with open_run(tmp_path, config, env) as logger:
        _, callback = logger.get_callbacks()
        ppo(env).learn(64, callback=callback)
        (record,) = videos(logger)
        assert record.fps == 50.0
        assert materialize(logger.run_dir, record).stat().st_size > 1000


def test_an_algorithm_with_memory_or_masks(tmp_path: Path) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    for algorithm, policy in (("MaskablePPO", "MlpPolicy"), ("RecurrentPPO", "MlpLstmPolicy")):
        options = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
        if algorithm == "RecurrentPPO":
            options["policy_kwargs"] = {"lstm_hidden_size": 8}  # type: ignore[assignment]
        model = getattr(contrib, algorithm)(policy, Corridor(), **{**small(), **options})
        with open_run(tmp_path, id=algorithm) as logger:
            model.learn(16, callback=VideoRecorderCallback(logger, filmed(), every_steps=16))
            (record,) = videos(logger)
            times = frames_of(logger.run_dir, record)
            assert times == list(range(len(times)))
            if algorithm == "MaskablePPO":  # its masks leave it the way to the right alone
                assert len(times) == 6


def test_the_evaluations_environment_serves_where_it_renders(tmp_path: Path) -> None:
    config = {"rl_logging": {"eval": {"every_steps": 32}, "video": {"every_steps": 32, "max_steps": 2}}}
    given: Any
    for number, given in enumerate((filmed(), filmed, gym.make("CartPole-v1"), "CartPole-v1", cartpoles(1))):
        with open_run(tmp_path, config, id=f"run{number}") as logger:
            training = make_vec_env(Corridor, n_envs=2) if number < 2 else cartpoles()
            ppo(training).learn(64, callback=logger.get_callbacks(given))
            assert [record.step for record in videos(logger)] == [32, 64], given


def test_without_an_environment_that_renders_it_says_so(tmp_path: Path) -> None:
    class Broken(Corridor):
        def render(self) -> Any:
            raise OSError("no display")

    class Silent(Corridor):
        def render(self) -> Any:
            return None

    with open_run(tmp_path, {"rl_logging": {"video": True}}) as logger:
        with pytest.raises(ValueError, match=r"no environment to record: give one, as get_callbacks\(video_env="):
            logger.get_callbacks()
        for env, says in (
            (Corridor(), "render_mode is None, not 'rgb_array'"),
            (Broken(render_mode="rgb_array"), "cannot be rendered: OSError: no display"),
            (Silent(render_mode="rgb_array"), r"render\(\) gives a NoneType"),
            (cartpoles(), "is several environments"),
        ):
            with pytest.raises(ValueError, match=says):
                logger.get_callbacks(video_env=env)
        with pytest.raises(ValueError, match="observation_space"):
            ppo().learn(64, callback=logger.get_callbacks(video_env=filmed()))


def test_a_recording_that_fails_is_told_once_and_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Fragile(Corridor):
        calls = 0

        def step(self, action: Any) -> Any:
            self.calls += 1
            if self.calls == 3:
                raise RuntimeError("the simulator is gone")
            return super().step(action)

    with open_run(tmp_path) as logger:
        model = ppo(make_vec_env(Corridor, n_envs=2))
        model.learn(96, callback=VideoRecorderCallback(logger, Fragile(render_mode="rgb_array"), every_steps=32))
        assert model.num_timesteps == 128
        assert [record.step for record in videos(logger)] == [64, 96, 128]
    told = [entry.getMessage() for entry in caplog.records if "the simulator is gone" in entry.getMessage()]
    assert len(told) == 1
    assert "videos/episode_0" in told[0]
