"""Real trainings, compared with the TensorBoard file that stable-baselines3 itself wrote of them."""

from __future__ import annotations

import copy
import csv
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import DISABLED, Figure, HParam, Image, KVWriter, Logger, Video, configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from rl_logging.adapters.stable_baselines3 import MetricsCallback, make_callbacks
from rl_logging.adapters.stable_baselines3.names import clean, name_table
from rl_logging.adapters.stable_baselines3.progress import Episodes as EpisodeFigures
from tests.support.adapter_logger import AdapterLogger
from tests.support.tensorboard_file import same, scalars


def small() -> dict[str, Any]:
    # Anew each time: SAC adds to its policy_kwargs.
    return {"policy_kwargs": {"net_arch": [16]}, "seed": 0, "device": "cpu"}


def ppo(**options: Any) -> PPO:
    env = make_vec_env("CartPole-v1", n_envs=options.pop("n_envs", 2), seed=0)
    return PPO("MlpPolicy", env, **{**small(), "n_steps": 32, "batch_size": 32, "n_epochs": 2, **options})


def a2c(**options: Any) -> A2C:
    return A2C("MlpPolicy", make_vec_env("CartPole-v1", n_envs=2, seed=0), **small(), n_steps=5, **options)


def dqn(**options: Any) -> DQN:
    return DQN(
        "MlpPolicy", make_vec_env("CartPole-v1", seed=0), **small(), learning_starts=50, batch_size=16, **options
    )


def sac(**options: Any) -> SAC:
    return SAC("MlpPolicy", pendulum(), **small(), learning_starts=50, batch_size=16, **options)


def td3(**options: Any) -> TD3:
    return TD3("MlpPolicy", pendulum(), **small(), learning_starts=50, batch_size=16, **options)


def pendulum() -> Any:
    return make_vec_env("Pendulum-v1", seed=0, env_kwargs={"max_episode_steps": 40})


ALGORITHMS: dict[str, tuple[Callable[..., Any], int, dict[str, Any]]] = {
    "PPO": (ppo, 512, {}),
    "A2C": (a2c, 300, {"log_interval": 7}),
    "DQN": (dqn, 400, {}),
    "SAC": (sac, 330, {"log_interval": 2}),
    "TD3": (td3, 250, {"log_interval": 1}),
}

Points = dict[str, list[tuple[int, float]]]


def assert_same_points(logger: AdapterLogger, written: Points, model: Any) -> None:
    """What was written is what is logged, once, at its step, in order; only the last window may come after it."""
    table = name_table(model, frozenset({"time/total_timesteps"}))
    assert len(written) >= 3
    for tag, points in written.items():
        rename = table.lookup(tag)
        ours = [(step, value / rename.scale) for step, value in logger.points(rename.canonical)]
        assert same(ours[: len(points)], points), (tag, rename, ours, points)
        assert len(ours) - len(points) in (0, 1), (tag, ours, points)
        if len(ours) > len(points):
            assert ours[-1][0] == model.num_timesteps, tag


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_points_are_those_of_its_own_file_and_the_last_window(algorithm: str, tmp_path: Path) -> None:
    make, timesteps, options = ALGORITHMS[algorithm]
    logger = AdapterLogger()
    model = make(tensorboard_log=str(tmp_path))
    model.learn(timesteps, callback=make_callbacks(logger), **options)

    written = scalars(tmp_path)
    assert_same_points(logger, written, model)
    assert logger.warnings == {}
    canonical = {
        "PPO": {"policy_loss", "value_loss", "total_loss", "entropy", "kl_divergence", "explained_variance"},
        "A2C": {"policy_loss", "value_loss", "entropy"},
        "DQN": {"q_loss", "exploration_rate"},
        "SAC": {"policy_loss", "critic_loss", "entropy_coefficient", "entropy_coefficient_loss"},
        "TD3": {"policy_loss", "critic_loss"},
    }[algorithm]
    always = {"episode_reward_mean", "episode_length_mean", "fps", "timesteps", "iterations", "learning_rate"}
    times = {"rollout_time", "learning_time", "epoch_time", "time_elapsed"}
    assert canonical | always | times | {"n_updates"} <= logger.names
    assert not any("/" in name for name in logger.names)
    # The last update's values, which the file has not.
    assert logger.points("n_updates")[-1][1] == model._n_updates
    assert logger.points("timesteps")[-1] == (model.num_timesteps, model.num_timesteps)


def test_the_last_update_of_ppo_is_logged_though_never_written(tmp_path: Path) -> None:
    logger = AdapterLogger()
    model = ppo(tensorboard_log=str(tmp_path))
    model.learn(256, callback=make_callbacks(logger))
    assert [step for step, _ in scalars(tmp_path)["train/loss"]] == [128, 192, 256]
    assert [step for step, _ in logger.points("total_loss")] == [128, 192, 256, 256]
    assert [step for step, _ in logger.points("fps")] == [64, 128, 192, 256]


def test_canonical_names_mean_what_they_say(tmp_path: Path) -> None:
    logger = AdapterLogger()
    ppo(tensorboard_log=str(tmp_path)).learn(256, callback=make_callbacks(logger))
    written = scalars(tmp_path)
    entropies = logger.points("entropy")
    # Without the table: of two actions, the entropy lies between 0 and ln 2, and its loss is its negative.
    assert all(0 < entropy <= np.log(2) + 1e-6 for _, entropy in entropies)
    assert same([(step, -entropy) for step, entropy in entropies[:-1]], written["train/entropy_loss"])
    for name, tag in (
        ("policy_loss", "train/policy_gradient_loss"),
        ("value_loss", "train/value_loss"),
        ("total_loss", "train/loss"),
        ("kl_divergence", "train/approx_kl"),
        ("episode_length_mean", "rollout/ep_len_mean"),
    ):
        assert same(logger.points(name)[: len(written[tag])], written[tag]), name


@pytest.mark.parametrize("resets", [True, False])
@pytest.mark.parametrize("again", [True, False])
def test_learning_goes_on(resets: bool, again: bool, tmp_path: Path) -> None:
    logger = AdapterLogger()
    model = ppo(tensorboard_log=str(tmp_path))
    callbacks = make_callbacks(logger)
    model.learn(128, callback=callbacks)
    first = {tag: len(points) for tag, points in scalars(tmp_path).items()}
    model.learn(192, callback=callbacks if again else make_callbacks(logger), reset_num_timesteps=resets)

    steps = [step for step, _ in logger.points("fps")]
    assert steps == [64, 128, 192, 256, 320]
    assert [value for _, value in logger.points("timesteps")] == steps
    # Each training logs its last window at its end; the first dump of one has no losses yet.
    assert [step for step, _ in logger.points("total_loss")] == [128, 128, 256, 320, 320]
    written = scalars(tmp_path)
    for tag, name in (("train/loss", "total_loss"), ("rollout/ep_rew_mean", "episode_reward_mean")):
        expected = [
            (step + (128 if resets and index >= first[tag] else 0), value)
            for index, (step, value) in enumerate(written[tag])
        ]
        ours = logger.points(name)
        if tag == "train/loss":  # each training has a last window
            ours = [ours[index] for index in range(len(ours)) if index not in (first[tag], len(ours) - 1)]
        assert same(ours, expected)
    assert ("clock/step_reset" in logger.warnings) is resets


def test_a_clock_may_restart() -> None:
    logger = AdapterLogger(on_step_reset="restart")
    model = ppo()
    for _ in range(2):
        model.learn(128, callback=make_callbacks(logger))
    assert [step for step, _ in logger.points("fps")] == [64, 128, 64, 128]
    assert logger.warnings == {}


@pytest.mark.parametrize("same_callbacks", [True, False])
def test_a_logger_of_the_users_carries_its_last_window_over(same_callbacks: bool, tmp_path: Path) -> None:
    logger = AdapterLogger()
    model = ppo()
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    callbacks = make_callbacks(logger)
    model.learn(128, callback=callbacks)
    model.learn(128, callback=callbacks if same_callbacks else make_callbacks(logger), reset_num_timesteps=False)
    assert same(logger.points("total_loss"), scalars(tmp_path)["train/loss"])
    assert [step for step, _ in logger.points("total_loss")] == [128, 192, 256]
    logger.finish()
    assert [step for step, _ in logger.points("total_loss")] == [128, 192, 256, 256]
    assert_same_points(logger, scalars(tmp_path), model)


def test_what_a_logger_of_the_users_wrote_unheard_is_not_lost(tmp_path: Path) -> None:
    logger = AdapterLogger()
    model = ppo()
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(128, callback=make_callbacks(logger))
    model.logger.dump(1000)
    model.learn(128, callback=make_callbacks(logger), reset_num_timesteps=False)
    assert [step for step, _ in logger.points("total_loss")] == [128, 128, 256]


class Swap(BaseCallback):
    """Gives the model another logger in the middle of the training."""

    def __init__(self, folder: Path, at: int) -> None:
        super().__init__()
        self.folder, self.at = folder, at

    def _on_step(self) -> bool:
        if self.num_timesteps == self.at:
            self.model.set_logger(configure(str(self.folder), ["tensorboard"]))
        return True


@pytest.mark.parametrize("swaps_first", [True, False])
def test_another_logger_in_the_middle(swaps_first: bool, tmp_path: Path) -> None:
    logger = AdapterLogger()
    model = ppo(tensorboard_log=str(tmp_path / "a"))
    swap, ours = Swap(tmp_path / "b", 150), make_callbacks(logger)
    model.learn(256, callback=[swap, *ours] if swaps_first else [*ours, swap])
    logger.finish()
    before, after = scalars(tmp_path / "a"), scalars(tmp_path / "b")
    assert same(logger.points("episode_reward_mean"), before["rollout/ep_rew_mean"] + after["rollout/ep_rew_mean"])
    assert [step for step, _ in logger.points("fps")] == [64, 128, 192, 256]
    # The first one's last window, the update at 128, was never written: it stands at the last step we knew it at.
    last_of_first = 148 if swaps_first else 150
    assert [step for step, _ in logger.points("total_loss")] == [128, last_of_first, 256, 256]


def test_without_dumps_there_is_the_last_window(tmp_path: Path) -> None:
    logger = AdapterLogger()
    model = ppo(tensorboard_log=str(tmp_path))
    model.learn(256, callback=make_callbacks(logger), log_interval=None)
    assert scalars(tmp_path) == {}
    assert {step for step, values in logger.rows if not values.keys() <= {"episode_reward", "episode_length"}} == {256}
    assert {"total_loss", "episode_reward_mean", "fps", "timesteps", "iterations"} <= logger.names
    assert logger.points("iterations") == [(256, 4.0)]


def test_a_short_a2c_that_never_dumps_is_logged() -> None:
    logger = AdapterLogger()
    a2c().learn(100, callback=make_callbacks(logger))
    assert {"policy_loss", "episode_reward_mean"} <= logger.names


@pytest.mark.parametrize("make", [ppo, sac])
@pytest.mark.parametrize("ours_first", [True, False])
def test_an_evaluation_beside_ours(make: Callable[..., Any], ours_first: bool, tmp_path: Path) -> None:
    logger = AdapterLogger()
    model = make(tensorboard_log=str(tmp_path))
    eval_env = make_vec_env(model.env.get_attr("spec")[0].id, n_envs=model.n_envs, seed=1)
    evaluation = EvalCallback(eval_env, eval_freq=50, n_eval_episodes=1, verbose=0)
    ours = make_callbacks(logger)
    model.learn(256, callback=[*ours, evaluation] if ours_first else [evaluation, *ours])
    written = scalars(tmp_path)
    assert_same_points(logger, written, model)
    assert same(logger.points("eval/episode_reward_mean"), written["eval/mean_reward"])
    assert len(written["eval/mean_reward"]) >= 2
    assert "eval/episode_length_mean" in logger.names


class Recorder(BaseCallback):
    """Records as people do."""

    def _on_training_start(self) -> None:
        # Without `stdout` and others in `exclude`, as TensorBoard is the only writer here.
        self.logger.record("hparams", HParam({"gamma": 0.9, "name": "x"}, {"train/loss": 0.0}))

    def _on_step(self) -> bool:
        self.logger.record_mean("mine/mean", float(self.num_timesteps))
        self.logger.record("mine/last", float(self.num_timesteps), exclude="stdout")
        self.logger.record("mine/no_tensorboard", 1.0, exclude=("tensorboard", "csv"))
        self.logger.record("mine/not_ours", 1.0, exclude="rl_logging")
        self.logger.record("mine/nan", float("nan"))
        self.logger.record(key="mine/keyword", value=np.float32(0.5))
        self.logger.record_mean("mine/none", None)
        return True


@pytest.mark.parametrize("make", [ppo, dqn])
@pytest.mark.parametrize("ours_first", [True, False])
def test_values_of_the_users(make: Callable[..., Any], ours_first: bool, tmp_path: Path) -> None:
    logger = AdapterLogger()
    model = make(tensorboard_log=str(tmp_path))
    ours = make_callbacks(logger)
    model.learn(256, callback=[*ours, Recorder()] if ours_first else [Recorder(), *ours])
    written = scalars(tmp_path)
    assert "mine/not_ours" in written
    del written["mine/not_ours"]
    assert_same_points(logger, written, model)
    assert {"mine/mean", "mine/last", "mine/nan", "mine/keyword", "mine/no_tensorboard"} <= logger.names
    assert not {"mine/not_ours", "mine/none"} & logger.names
    assert {"hparams": {"gamma": 0.9, "name": "x"}} in logger.config
    assert logger.warnings == {}


class Media(BaseCallback):
    def _on_step(self) -> bool:
        from matplotlib.figure import Figure as Plot

        if self.num_timesteps == 10:
            quiet = ("stdout", "log", "csv", "tensorboard")
            record = self.logger.record
            record("image/chw", Image(torch.zeros(3, 4, 5), "CHW"), exclude=quiet)
            record("image/hw", Image(np.zeros((4, 5), np.uint8), "HW"), exclude=quiet)
            record("image/nhwc", Image(np.zeros((2, 4, 5, 3), np.uint8), "NHWC"), exclude=quiet)
            record("image/wh", Image(np.arange(20, dtype=np.uint8).reshape(5, 4), "WH"), exclude=quiet)
            record("figure", Figure(Plot(), close=True), exclude=quiet)
            record("video", Video(torch.zeros(2, 6, 3, 4, 5, dtype=torch.uint8), fps=12), exclude=quiet)
            record("image/not_ours", Image(np.zeros((4, 5)), "HW"), exclude=("rl_logging", "tensorboard"))
            record("array", np.array([1.0, 3.0]), exclude=quiet)
            record("text", "some text", exclude=quiet)
        return True


@pytest.mark.parametrize("interval", ["framework", "step"])
def test_pictures_and_videos(interval: str) -> None:
    logger = AdapterLogger(interval)
    ppo().learn(64, callback=[Media(), *make_callbacks(logger)])
    shapes = {name: getattr(image, "shape", None) for name, image, _ in logger.images}
    assert shapes == {
        "image/chw": (3, 4, 5),  # as torch has it
        "image/hw": (4, 5),
        "image/nhwc": (4, 10, 3),
        "image/wh": (4, 5),
        "figure": None,
    }
    assert logger.images[3][1][1, 0] == 1
    assert {step for *_, step in logger.images} == {10}
    [(name, frames, step, fps)] = logger.videos
    assert (name, frames.shape, step, fps) == ("video", (6, 3, 4, 10), 10, 12.0)
    assert {"array/mean", "array/max"} <= logger.names
    assert list(logger.warnings) == ["text"]
    assert "'text'" in logger.warnings["text"]


@pytest.mark.parametrize(
    ("names", "present", "absent"),
    [
        ("canonical", {"entropy", "timesteps"}, {"train/entropy_loss", "time/total_timesteps"}),
        ("native", {"train/entropy_loss", "time/total_timesteps", "rollout/ep_rew_mean"}, {"entropy", "policy_loss"}),
        ("both", {"entropy", "train/entropy_loss", "rollout/ep_rew_mean", "episode_reward_mean"}, set()),
    ],
)
@pytest.mark.parametrize("interval", ["framework", "balanced"])
def test_names(interval: str, names: str, present: set[str], absent: set[str], tmp_path: Path) -> None:
    logger = AdapterLogger(interval, names=names)
    ppo(tensorboard_log=str(tmp_path)).learn(256, callback=make_callbacks(logger))
    assert present <= logger.names
    assert not absent & logger.names
    if names != "canonical" and interval == "framework":
        for tag, points in scalars(tmp_path).items():
            assert same(logger.points(tag)[: len(points)], points), tag
    for name in logger.names - {"total_loss"}:
        points = logger.points(name)
        assert interval == "framework" or len({step for step, _ in points}) == len(points), name


def test_the_filter() -> None:
    logger = AdapterLogger(metric_filter=["train/loss", "episode_reward_mean", "fps"])
    ppo().learn(128, callback=make_callbacks(logger))
    assert logger.names == {"total_loss", "episode_reward_mean", "fps"}


def reduced(
    values: list[tuple[int, float]], every: int, how: Callable[[list[float]], float]
) -> list[tuple[int, float]]:
    windows: dict[int, list[float]] = {}
    for step, value in values:
        windows.setdefault(-(-max(step, 1) // every) * every, []).append(value)
    return [(step, how(window)) for step, window in windows.items()]


@pytest.mark.parametrize(("interval", "every"), [("step", 1), ("balanced", 10), (25, 25)])
def test_every_value_recorded_is_in_one_window(interval: str | int, every: int) -> None:
    logger = AdapterLogger(interval)
    model = sac()
    tally = ByHand()
    model.learn(200, callback=[tally, *make_callbacks(logger)])
    losses = tally.losses
    assert len(losses) == 150
    ours = logger.points("critic_loss")
    expected = reduced(losses, every, lambda window: float(np.mean(window)))
    assert [step for step, _ in ours] == [step for step, _ in expected]
    assert [value for _, value in ours] == pytest.approx([value for _, value in expected], rel=1e-12)
    updates = [(step, float(number + 1)) for number, (step, _) in enumerate(losses)]
    assert logger.points("n_updates") == reduced(updates, every, lambda window: window[-1])
    assert [step for step, _ in logger.points("timesteps")] == list(range(every, 201, every))


class ByHand(BaseCallback):
    """Takes each critic loss from the logger's own dictionary, one step after it was recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[tuple[int, float]] = []
        self.updates = 0

    def _look(self, step: int) -> None:
        if self.model._n_updates != self.updates:
            self.updates = self.model._n_updates
            self.losses.append((step, float(self.logger.name_to_value["train/critic_loss"])))

    def _on_rollout_start(self) -> None:
        self._look(self.model.num_timesteps)

    def _on_training_end(self) -> None:
        self._look(self.model.num_timesteps)

    def _on_step(self) -> bool:
        return True


@pytest.mark.parametrize("n_envs", [1, 3])
def test_intervals_count_steps_of_all_environments_as_one(n_envs: int) -> None:
    logger = AdapterLogger("balanced")
    model = ppo(n_envs=n_envs)
    model.learn(64 * n_envs, callback=make_callbacks(logger))
    steps = [step for step, _ in logger.points("timesteps")]
    assert steps == [step * n_envs for step in (10, 20, 30, 40, 50, 60, 64)]
    assert [value for _, value in logger.points("timesteps")] == steps
    # The rollout's 32 steps are the first to be learned from, in the window up to 40.
    assert [step for step, _ in logger.points("total_loss")] == [40 * n_envs, 64 * n_envs]


def test_rollouts() -> None:
    logger = AdapterLogger("rollout")
    ppo().learn(256, callback=make_callbacks(logger), log_interval=None)
    assert [step for step, _ in logger.points("total_loss")] == [64, 128, 192, 256]
    assert logger.points("iterations") == [(64, 1.0), (128, 2.0), (192, 3.0), (256, 4.0)]
    assert [step for step, _ in logger.points("rollout_time")] == [64, 128, 192, 256]
    assert [step for step, _ in logger.points("learning_time")] == [64, 128, 192, 256]


class Episodes(BaseCallback):
    """Counts returns by the rewards alone."""

    def __init__(self) -> None:
        super().__init__()
        self.finished: list[tuple[int, float]] = []
        self.running: Any = 0.0

    def _on_step(self) -> bool:
        self.running = self.running + self.locals["rewards"]
        for index in np.flatnonzero(self.locals["dones"]):
            self.finished.append((self.num_timesteps, float(self.running[index])))
            self.running[index] = 0.0
        return True


@pytest.mark.parametrize(("interval", "window"), [("framework", 5), ("step", 100), ("step", 5)])
def test_episode_figures_are_those_of_the_last_100(interval: str, window: int) -> None:
    logger = AdapterLogger(interval, names="both")
    episodes = Episodes()
    model = ppo(n_envs=8, stats_window_size=window)
    model.learn(4096, callback=[episodes, *make_callbacks(logger)])
    assert len(episodes.finished) > 120
    means = logger.points("episode_reward_mean")
    assert len(means) >= 10
    for step, mean in means:
        returns = [value for at, value in episodes.finished if at <= step]
        assert mean == pytest.approx(np.mean(returns[-100:]), rel=1e-6), step
    assert logger.points("episode_reward_max")[-1][1] == max(value for _, value in episodes.finished[-100:])
    theirs = dict(logger.points("rollout/ep_rew_mean"))
    if window == 5:
        assert theirs[4096] == pytest.approx(np.mean([value for _, value in episodes.finished[-5:]]), rel=1e-6)


def test_without_a_monitor_there_are_no_episode_figures() -> None:
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Bare(DummyVecEnv):
        pass

    logger = AdapterLogger()
    env = Bare([lambda: gym.make("CartPole-v1")])
    PPO("MlpPolicy", env, **small(), n_steps=64, batch_size=32, n_epochs=1).learn(128, callback=make_callbacks(logger))
    assert "episode_reward_mean" not in logger.names
    assert "fps" in logger.names


def test_the_configuration() -> None:
    logger = AdapterLogger()
    model = ppo(learning_rate=lambda remaining: 1e-3 * remaining, clip_range=0.3)
    callbacks = make_callbacks(logger)
    model.learn(64, callback=callbacks)
    model.learn(64, callback=callbacks, reset_num_timesteps=False)
    [config] = logger.config
    assert config["num_envs"] == 2
    assert config["seed"] == 0
    assert config["env"]["id"] == "CartPole-v1"
    algo = config["algo"]
    assert algo["class"] == "PPO"
    assert algo["policy_class"] == "ActorCriticPolicy"
    assert algo["policy_kwargs"]["net_arch"] == [16]
    assert (algo["learning_rate"], algo["clip_range"], algo["clip_range_vf"]) == (1e-3, pytest.approx(0.3), None)
    assert (algo["n_steps"], algo["gamma"], algo["stats_window_size"]) == (32, 0.99, 100)


def test_the_configuration_of_an_off_policy_algorithm_is_json() -> None:
    from rl_logging.jsonable import json_safe

    logger = AdapterLogger()
    sac(ent_coef="auto_0.1").learn(60, callback=make_callbacks(logger))
    algo: Any = json_safe(logger.config[0]["algo"])
    assert algo["ent_coef"] == "auto_0.1"
    assert algo["buffer_size"] == 1_000_000
    assert algo["learning_rate"] == 3e-4


def test_the_clock_is_the_models() -> None:
    logger = AdapterLogger()
    seen: list[tuple[int, int | None]] = []

    class Reader(BaseCallback):
        def _on_step(self) -> bool:
            assert callable(logger.read_clock)
            seen.append((self.model.num_timesteps, logger.read_clock()))
            return True

    model = ppo()
    model.learn(64, callback=[*make_callbacks(logger), Reader()])
    model.learn(64, callback=[*make_callbacks(logger), Reader()])
    assert seen[:32] == [(step, step) for step in range(2, 65, 2)]
    assert seen[32:] == [(step, step + 64) for step in range(2, 65, 2)]
    assert logger.read_clock == 128  # where the training has left it


class Boom(BaseCallback):
    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def _on_step(self) -> bool:
        if self.num_timesteps == self.at:
            raise KeyboardInterrupt
        return True


def is_untouched(sb3_logger: Logger) -> bool:
    return not {"record", "record_mean", "dump"} & vars(sb3_logger).keys()


@pytest.mark.parametrize("interval", ["framework", "balanced"])
@pytest.mark.parametrize("then", ["learn", "learn anew", "finish"])
def test_after_an_exception_the_rest_is_logged_and_everything_restored(interval: str, then: str) -> None:
    logger = AdapterLogger(interval)
    model = ppo()
    callbacks = make_callbacks(logger)
    with pytest.raises(KeyboardInterrupt):
        model.learn(512, callback=[*callbacks, Boom(100)])
    left = model.logger
    if then == "finish":
        logger.finish()
    else:
        model.learn(128, callback=callbacks if then == "learn" else make_callbacks(logger))
    assert is_untouched(left)
    assert is_untouched(model.logger)
    losses = [step for step, _ in logger.points("total_loss")]
    rest = [step for step in losses if step <= 100]
    assert rest == ([100] if interval == "framework" else [80])
    if then != "finish":
        assert logger.points("fps")[-1][0] == 228
    logger.finish()
    assert [step for step, _ in logger.points("total_loss")] == losses


def test_after_an_exception_with_a_logger_of_the_users(tmp_path: Path) -> None:
    logger = AdapterLogger()
    model = ppo()
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    with pytest.raises(KeyboardInterrupt):
        model.learn(512, callback=[*make_callbacks(logger), Boom(100)])
    model.learn(128, callback=make_callbacks(logger), reset_num_timesteps=False)
    logger.finish()
    assert is_untouched(model.logger)
    written = scalars(tmp_path)
    # What the exception left unwritten came with the next dump, at 164, and is logged there alone.
    assert [step for step, _ in written["train/loss"]] == [164, 228]
    assert same(logger.points("total_loss")[:2], written["train/loss"])
    assert [step for step, _ in logger.points("total_loss")] == [164, 228, 228]
    # The episodes that finished before the exception were in no dump.
    ours = logger.points("episode_reward_mean")
    assert [step for step, _ in ours] == [64, 100, 164, 228]
    assert same([ours[0], *ours[2:]], written["rollout/ep_rew_mean"])


@pytest.mark.parametrize("interval", ["framework", "step", "rollout"])
def test_a_callback_that_stops_the_training(interval: str) -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return bool(self.num_timesteps < 100)

    logger = AdapterLogger(interval)
    model = ppo()
    model.learn(512, callback=[Stop(), *make_callbacks(logger)])
    assert is_untouched(model.logger)
    assert logger.rows[-1][0] == 100


def test_two_runs_log_one_training_and_leave_in_any_order() -> None:
    first, second = AdapterLogger(), AdapterLogger()
    model = ppo()
    model.learn(128, callback=[*make_callbacks(first), *make_callbacks(second)])
    assert first.points("episode_reward_mean") == second.points("episode_reward_mean") != []
    assert is_untouched(model.logger)


def test_the_same_run_twice_logs_once() -> None:
    logger = AdapterLogger()
    model = ppo()
    model.learn(128, callback=[*make_callbacks(logger), *make_callbacks(logger)])
    assert [step for step, _ in logger.points("fps")] == [64, 128]
    assert is_untouched(model.logger)


def test_a_finish_in_the_middle_of_a_training() -> None:
    class Finish(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 100:
                logger.finish()
                logger.rows.clear()
            return True

    for interval in ("framework", "step", "rollout"):
        logger = AdapterLogger(interval)
        ppo().learn(256, callback=[*make_callbacks(logger), Finish()])
        assert logger.rows == []
        assert logger.warnings == {}


@pytest.mark.parametrize("own", [True, False])
def test_somebody_elses_stand_in_stays(own: bool) -> None:
    calls: list[str] = []
    model = ppo()
    model.set_logger(Logger(None, []))

    def place() -> None:
        inner = model.logger.record
        model.logger.record = lambda *args, **kwargs: (calls.append(args[0]), inner(*args, **kwargs))

    class Place(BaseCallback):
        def _on_training_start(self) -> None:
            place()

        def _on_step(self) -> bool:
            return True

    logger = AdapterLogger("rollout")
    if own:
        place()
        theirs = model.logger.record
        model.learn(64, callback=make_callbacks(logger))
        assert model.logger.record is theirs
    else:
        model.learn(64, callback=[*make_callbacks(logger), Place()])
    rows = len(logger.rows)
    assert logger.points("total_loss")
    model.logger.record("later", 1.0)
    logger.finish()
    assert calls[-1] == "later"
    assert len(logger.rows) == rows
    assert "later" not in logger.names


class Copies(BaseCallback):
    """Saves and copies the model in the middle of a training."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.copies: list[Any] = []

    def _on_step(self) -> bool:
        if self.num_timesteps == 100:
            self.model.save(self.folder / "model.zip")
            self.copies = [cloudpickle.loads(cloudpickle.dumps(self.model)), copy.deepcopy(self.model)]
            self.copies.append(pickle.loads(pickle.dumps(self.model.logger)))
        return True


def test_the_model_can_be_saved_and_copied(tmp_path: Path) -> None:
    logger = AdapterLogger()
    copies = Copies(tmp_path)
    model = ppo()
    model.learn(256, callback=[*make_callbacks(logger), copies])
    PPO.load(tmp_path / "model.zip", device="cpu")
    rows = len(logger.rows)
    for sb3_logger in (copies.copies[0].logger, copies.copies[1].logger, copies.copies[2]):
        sb3_logger.record("copied", 1.0)
        assert sb3_logger.name_to_value["copied"] == 1.0
        sb3_logger.dump(5)
        assert sb3_logger.name_to_value == {}
    assert len(logger.rows) == rows
    assert model.logger is not copies.copies[1].logger


@pytest.mark.parametrize("how", [copy.deepcopy, lambda callback: cloudpickle.loads(cloudpickle.dumps(callback))])
def test_a_copied_callback_is_silent(how: Callable[[Any], Any]) -> None:
    logger = AdapterLogger()
    [callback] = make_callbacks(logger)
    model = ppo()
    model.learn(64, callback=callback)
    rows = len(logger.rows)
    copied = how(callback)
    assert isinstance(copied, MetricsCallback)
    model.learn(64, callback=copied)
    assert len(logger.rows) == rows


class Broken(AdapterLogger):
    def emit(self, values: Any, step: Any) -> None:
        raise RuntimeError("broken")

    def log_image(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("broken")

    def add_config_defaults(self, config: Any) -> None:
        raise RuntimeError("broken")


@pytest.mark.parametrize("interval", ["framework", "step", "rollout"])
def test_an_error_of_ours_never_reaches_the_training(interval: str) -> None:
    logger = Broken(interval)
    model = ppo()
    model.learn(128, callback=[Media(), *make_callbacks(logger)])
    logger.finish()
    assert is_untouched(model.logger)
    assert any("broken" in message and "training goes on" in message for message in logger.warnings.values())


def test_a_logger_that_cannot_begin_never_stops_the_training() -> None:
    class Unusable(AdapterLogger):
        def pipeline(self, table: Any) -> Any:
            raise RuntimeError("broken")

    logger = Unusable()
    model = ppo()
    model.learn(128, callback=make_callbacks(logger))
    logger.finish()
    assert is_untouched(model.logger)
    assert "stable_baselines3/begin" in logger.warnings


def test_an_error_of_the_frameworks_writer_is_not_hidden_and_loses_nothing() -> None:
    class Writer(KVWriter):
        def write(self, key_values: Any, key_excluded: Any, step: int = 0) -> None:
            raise OSError("disk full")

        def close(self) -> None:
            pass

    logger = AdapterLogger()
    model = ppo()
    model.set_logger(Logger(None, [Writer()]))
    with pytest.raises(OSError, match="disk full"):
        model.learn(128, callback=make_callbacks(logger))
    assert logger.points("fps")
    logger.finish()
    assert is_untouched(model.logger)


def test_a_disabled_logger_of_theirs_is_still_heard_once() -> None:
    logger = AdapterLogger()
    model = ppo()
    model.set_logger(Logger(None, []))
    model.logger.set_level(DISABLED)
    model.logger.record("old", 1.0)
    model.learn(192, callback=make_callbacks(logger))
    logger.finish()
    assert [step for step, _ in logger.points("fps")] == [64, 128, 192]
    assert [step for step, _ in logger.points("total_loss")] == [128, 192, 192]
    assert "old" not in logger.names


@pytest.mark.parametrize(
    ("key", "name"),
    [("train/x", "x"), ("rollout/x", "x"), ("time/x", "x"), ("eval/x", "eval/x"), ("mine/train/x", "mine/train/x")],
)
def test_clean(key: str, name: str) -> None:
    assert clean(key) == name


def test_an_objective_is_the_negative_of_a_loss_and_kept() -> None:
    logger = AdapterLogger()

    class Objective(BaseCallback):
        def _on_step(self) -> bool:
            self.logger.record("train/policy_objective", 0.25)
            return True

    dqn(train_freq=16).learn(64, callback=[Objective(), *make_callbacks(logger)], log_interval=1)
    assert logger.points("policy_loss")[0][1] == -0.25
    assert logger.points("policy_objective")[0][1] == 0.25


class Norms:
    """What torch's own function returned, before anybody listened to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.values: list[float] = []
        inner = torch.nn.utils.clip_grad_norm_

        def clip(*args: Any, **kwargs: Any) -> Any:
            norm = inner(*args, **kwargs)
            self.values.append(float(norm))
            return norm

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
        self.placed = clip


@pytest.mark.parametrize("interval", ["framework", "rollout", "step"])
def test_the_norms_of_an_updates_gradients(interval: str, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = Norms(monkeypatch)
    logger = AdapterLogger(interval)
    ppo().learn(192, callback=make_callbacks(logger))
    # 64 transitions in two minibatches, twice: four clips an update. They come with the losses of that update.
    assert len(norms.values) == 12
    means = [float(np.mean(norms.values[at : at + 4])) for at in (0, 4, 8)]
    points = logger.points("grad_norm")
    assert [value for _, value in points] == pytest.approx(means, rel=1e-6)
    assert [step for step, _ in points] == [step for step, _ in logger.points("total_loss")]
    assert torch.nn.utils.clip_grad_norm_ is norms.placed


def test_norms_where_an_algorithm_clips_only_when_told_to() -> None:
    from sb3_contrib import QRDQN

    for max_grad_norm, names in ((None, set()), (10.0, {"grad_norm"})):
        logger = AdapterLogger()
        env = make_vec_env("CartPole-v1", seed=0)
        model = QRDQN("MlpPolicy", env, **small(), learning_starts=50, batch_size=16, max_grad_norm=max_grad_norm)
        model.learn(100, callback=make_callbacks(logger))
        assert logger.names & {"grad_norm"} == names


def test_after_an_error_in_an_update_torch_is_as_it_was() -> None:
    class Failing(PPO):
        def train(self) -> None:
            raise ValueError("in the update")

    before = torch.nn.utils.clip_grad_norm_
    logger = AdapterLogger()
    env = make_vec_env("CartPole-v1", n_envs=2, seed=0)
    model = Failing("MlpPolicy", env, **small(), n_steps=32, batch_size=32)
    with pytest.raises(ValueError, match="in the update"):
        model.learn(128, callback=make_callbacks(logger))
    logger.finish()
    assert torch.nn.utils.clip_grad_norm_ is before
    assert is_untouched(model.logger)


class Together(gym.Env[np.ndarray, int]):
    """Ends each episode after three steps, with a return of its own number."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, number: int) -> None:
        self.number, self.steps = number, 0

    def reset(self, **options: Any) -> Any:
        super().reset(**options)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.zeros(2, np.float32), float(self.number) if self.steps == 3 else 0.0, self.steps == 3, False, {}


def together(n_envs: int) -> Any:
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    return DummyVecEnv([lambda number=number: Monitor(Together(number)) for number in range(n_envs)])


@pytest.mark.parametrize(
    ("interval", "steps"),
    [
        ("framework", [3, 6, 9, 12, 15, 18]),
        ("step", [3, 6, 9, 12, 15, 18]),
        ("balanced", [10, 20]),
        (4, [4, 8, 12, 16, 20]),
    ],
)
def test_each_episode_is_a_point_and_those_of_one_step_are_one(interval: str | int, steps: list[int]) -> None:
    logger = AdapterLogger(interval)
    model = PPO("MlpPolicy", together(50), **small(), n_steps=10, batch_size=500, n_epochs=1)
    model.learn(1000, callback=make_callbacks(logger))
    expected = [step * 50 for step in steps]
    assert logger.points("episode_reward") == [(step, np.mean(range(50))) for step in expected]
    assert logger.points("episode_length") == [(step, 3.0) for step in expected]
    own = [values for _, values in logger.rows if "episode_reward" in values]
    assert len(own) == len(expected)
    step, deviation = logger.points("episode_reward_std")[-1]
    assert step == (900 if interval == "step" else 1000)
    assert deviation == pytest.approx(np.std([*range(50)] * 2))
    assert logger.points("episode_length_std")[-1] == (step, 0.0)


class Each(BaseCallback):
    """Calls a function in each step."""

    def __init__(self, call: Callable[[Each], None]) -> None:
        super().__init__()
        self.call = call

    def _on_step(self) -> bool:
        self.call(self)
        return True


def test_what_changes_after_it_was_recorded_is_logged_as_it_was() -> None:
    logger = AdapterLogger("step")
    array, tensor = np.zeros(2), torch.zeros(2)

    def record(callback: Each) -> None:
        array[:] = tensor[:] = callback.n_calls
        for key, value in {"array": array, "tensor": tensor, "big": 2**60, "np": np.float32(callback.n_calls)}.items():
            callback.logger.record(key, value)

    ppo().learn(64, callback=[*make_callbacks(logger), Each(record)])
    expected = [(2 * call, float(call)) for call in range(1, 33)]
    for name in ("array/mean", "tensor/max", "np"):
        assert logger.points(name) == expected
    assert {value for _, value in logger.points("big")} == {2.0**60}


class Noting(gym.Wrapper):  # type: ignore[type-arg]
    """Tells of its steps, in several types."""

    def __init__(self) -> None:
        super().__init__(gym.make("CartPole-v1"))
        self.steps = 0

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        self.steps += 1
        own = {"height": np.float32(self.steps), "is_success": self.steps % 2 == 0, "note": "some", "many": [1.0, 2.0]}
        return observation, reward, terminated, truncated, {**info, **own}


@pytest.mark.parametrize("interval", ["framework", "step"])
def test_what_a_monitor_notes_of_an_episode_is_logged_with_it(interval: str, tmp_path: Path) -> None:
    logger = AdapterLogger(interval)
    noted = ("height", "is_success", "note", "many")
    env = Monitor(Noting(), str(tmp_path / "m"), info_keywords=noted)
    model = PPO("MlpPolicy", DummyVecEnv([lambda: env]), **small(), n_steps=64, batch_size=64, n_epochs=1)
    model.learn(256, callback=make_callbacks(logger))
    env.close()
    with (tmp_path / "m.monitor.csv").open() as file:
        file.readline()
        rows = list(csv.DictReader(file))
    assert [value for _, value in logger.points("height")] == [float(row["height"]) for row in rows]
    assert [value for _, value in logger.points("is_success")] == [float(row["is_success"] == "True") for row in rows]
    assert [step for step, _ in logger.points("height")] == [step for step, _ in logger.points("episode_reward")]
    assert not {"note", "many", "many/mean", "t"} & logger.names
    assert logger.warnings == {}


def test_episodes_that_end_between_two_steps_are_averaged_one_by_one() -> None:
    logger = AdapterLogger("rollout", names="native", metric_filter=["train/episode_reward"])
    episodes = Episodes()
    ppo().learn(256, callback=[episodes, *make_callbacks(logger)])
    windows: dict[int, list[float]] = {}
    for step, episode_return in episodes.finished:
        windows.setdefault(-(-step // 64) * 64, []).append(episode_return)
    assert logger.points("train/episode_reward") == [
        (step, pytest.approx(np.mean(returns))) for step, returns in windows.items()
    ]
    assert logger.names == {"train/episode_reward"}


def test_episodes_that_an_exception_left_unlogged() -> None:
    logger = AdapterLogger()
    episodes = Episodes()
    with pytest.raises(KeyboardInterrupt):
        ppo().learn(256, callback=[episodes, *make_callbacks(logger), Boom(100)], log_interval=None)
    logger.finish()
    assert episodes.finished
    assert [step for step, _ in logger.points("episode_reward")] == sorted({step for step, _ in episodes.finished})


INFINITY = float("inf")


@pytest.mark.parametrize(
    ("returns", "deviation"),
    [((INFINITY, -INFINITY), np.nan), ((INFINITY, 1.0), INFINITY), ((np.nan, 1.0), np.nan), ((1e300, -1e300), 1e300)],
)
def test_figures_of_returns_that_are_no_ordinary_numbers(returns: tuple[float, float], deviation: float) -> None:
    figures = EpisodeFigures(SimpleNamespace(ep_info_buffer=[{"r": value, "l": 1} for value in returns])).figures()
    assert figures["episode_reward_std"] == pytest.approx(deviation, nan_ok=True)
    assert figures["episode_length_mean"] == 1.0


def test_ars_whose_candidates_are_evaluated_elsewhere() -> None:
    from sb3_contrib import ARS
    from sb3_contrib.common.vec_env import AsyncEval

    logger = AdapterLogger()
    model = ARS("LinearPolicy", make_vec_env("CartPole-v1", seed=0), n_delta=2, seed=0, device="cpu")
    evaluation = AsyncEval([lambda: make_vec_env("CartPole-v1", seed=0)] * 2, model.policy)
    model.learn(300, callback=make_callbacks(logger), async_eval=evaluation)
    steps = [step for step, _ in logger.points("fps")]
    # Nobody tells when one of the four candidates was done, so they are one at the end of their evaluation.
    assert [step for step, _ in logger.points("episode_reward")] == steps
    assert logger.points("episode_reward")[0][1] == logger.points("rollout/ep_rew_mean")[0][1]
    assert logger.points("iterations") == [(step, float(number)) for number, step in enumerate(steps, 1)]
    assert logger.warnings == {}


@pytest.mark.parametrize("on_step_reset", ["continue", "restart"])
def test_two_models_on_one_logger_take_turns(on_step_reset: str) -> None:
    logger = AdapterLogger(on_step_reset=on_step_reset)
    first, second = ppo(), ppo()
    for model in (first, second, first, second):
        model.learn(128, callback=make_callbacks(logger), reset_num_timesteps=False)
    steps = [step for step, _ in logger.points("fps")]
    if on_step_reset == "continue":
        assert steps == list(range(64, 513, 64))
        assert [value for _, value in logger.points("timesteps")] == steps
    else:
        assert steps == [64, 128, 64, 128, 192, 256, 192, 256]
    assert logger.warnings == {}


def test_a_model_loaded_from_before_goes_on_where_the_run_is(tmp_path: Path) -> None:
    logger = AdapterLogger()
    model = ppo()
    model.learn(64, callback=make_callbacks(logger))
    model.save(tmp_path / "early.zip")
    model.learn(128, callback=make_callbacks(logger), reset_num_timesteps=False)
    loaded = PPO.load(tmp_path / "early.zip", env=model.env, device="cpu")
    loaded.learn(64, callback=make_callbacks(logger), reset_num_timesteps=False)
    assert [step for step, _ in logger.points("fps")] == [64, 128, 192, 256]


def test_an_evaluation_with_masks_beside_ours(tmp_path: Path) -> None:
    from sb3_contrib import MaskablePPO
    from sb3_contrib.common.envs import InvalidActionEnvDiscrete
    from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback

    def env() -> Any:
        return make_vec_env(lambda: InvalidActionEnvDiscrete(dim=8, n_invalid_actions=3, ep_length=20), n_envs=2)

    logger = AdapterLogger()
    model = MaskablePPO(
        "MlpPolicy", env(), **small(), n_steps=32, batch_size=32, n_epochs=1, tensorboard_log=str(tmp_path)
    )
    evaluation = MaskableEvalCallback(env(), eval_freq=50, n_eval_episodes=1, verbose=0)
    model.learn(256, callback=[evaluation, *make_callbacks(logger)])
    written = scalars(tmp_path)
    assert_same_points(logger, written, model)
    assert len(written["eval/mean_reward"]) == 2
    assert same(logger.points("eval/episode_reward_mean"), written["eval/mean_reward"])
