"""Every algorithm of stable-baselines3 and sb3-contrib, trained and compared with the file it writes itself."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sb3_contrib import ARS, QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnvWrapper

from rl_logging.adapters.stable_baselines3 import make_callbacks
from rl_logging.adapters.stable_baselines3.describe import configuration
from rl_logging.adapters.stable_baselines3.names import keys_of_ours, name_table
from rl_logging.extraction.window import reduction
from rl_logging.jsonable import json_safe
from tests.matrix import report
from tests.support.adapter_logger import AdapterLogger
from tests.support.tensorboard_file import same, scalars


class Tally(VecEnvWrapper):
    """Counts episodes by the rewards alone: of each the environment step it ended in, its return and its length."""

    def __init__(self, venv: Any) -> None:
        super().__init__(venv)
        self.finished: list[tuple[int, float, int]] = []
        self.steps = 0

    def reset(self) -> Any:
        self.returns = np.zeros(self.num_envs)
        self.lengths = np.zeros(self.num_envs, dtype=int)
        return self.venv.reset()

    def step_wait(self) -> Any:
        result = self.venv.step_wait()
        self.steps += self.num_envs
        self.returns += result[1]
        self.lengths += 1
        for index in np.flatnonzero(result[2]):
            self.finished.append((self.steps, float(self.returns[index]), int(self.lengths[index])))
            self.returns[index] = self.lengths[index] = 0
        return result


def cart_pole(n_envs: int = 2) -> Any:
    return Tally(make_vec_env("CartPole-v1", n_envs=n_envs, seed=0))


def pendulum() -> Any:
    return Tally(make_vec_env("Pendulum-v1", seed=0, env_kwargs={"max_episode_steps": 40}))


def masked() -> Any:
    return Tally(
        make_vec_env(lambda: InvalidActionEnvDiscrete(dim=8, n_invalid_actions=3, ep_length=20), n_envs=2, seed=0)
    )


def small(**policy_kwargs: Any) -> dict[str, Any]:
    # Anew each time: SAC adds to its policy_kwargs.
    return {"policy_kwargs": {"net_arch": [16], **policy_kwargs}, "seed": 0, "device": "cpu"}


ON_POLICY = {"n_steps": 32, "batch_size": 32, "n_epochs": 2}
OFF_POLICY = {"learning_starts": 50, "batch_size": 16, "buffer_size": 1000}

Make = Callable[[str | None], Any]
ALGORITHMS: dict[str, tuple[Make, int, int | None]] = {
    # How to make it with a folder for its file; how many steps to train it; its log_interval (None: the default).
    "PPO": (lambda to: PPO("MlpPolicy", cart_pole(), **small(), **ON_POLICY, tensorboard_log=to), 320, None),
    "A2C": (lambda to: A2C("MlpPolicy", cart_pole(), **small(), n_steps=5, tensorboard_log=to), 300, 7),
    "SAC": (lambda to: SAC("MlpPolicy", pendulum(), **small(), **OFF_POLICY, tensorboard_log=to), 250, 1),
    "TD3": (lambda to: TD3("MlpPolicy", pendulum(), **small(), **OFF_POLICY, tensorboard_log=to), 250, 1),
    "DDPG": (lambda to: DDPG("MlpPolicy", pendulum(), **small(), **OFF_POLICY, tensorboard_log=to), 250, 1),
    "DQN": (lambda to: DQN("MlpPolicy", cart_pole(1), **small(), **OFF_POLICY, tensorboard_log=to), 600, None),
    "TQC": (lambda to: TQC("MlpPolicy", pendulum(), **small(), **OFF_POLICY, tensorboard_log=to), 250, 1),
    "TRPO": (
        lambda to: TRPO("MlpPolicy", cart_pole(), **small(), n_steps=32, batch_size=32, tensorboard_log=to),
        320,
        None,
    ),
    "QRDQN": (lambda to: QRDQN("MlpPolicy", cart_pole(1), **small(), **OFF_POLICY, tensorboard_log=to), 600, None),
    "RecurrentPPO": (
        lambda to: RecurrentPPO(
            "MlpLstmPolicy", cart_pole(), **small(lstm_hidden_size=8), **ON_POLICY, tensorboard_log=to
        ),
        320,
        None,
    ),
    "MaskablePPO": (
        lambda to: MaskablePPO("MlpPolicy", masked(), **small(), **ON_POLICY, tensorboard_log=to),
        320,
        None,
    ),
    "CrossQ": (lambda to: CrossQ("MlpPolicy", pendulum(), **small(), **OFF_POLICY, tensorboard_log=to), 250, 1),
    "ARS": (
        lambda to: ARS("LinearPolicy", cart_pole(1), n_delta=3, seed=0, device="cpu", tensorboard_log=to),
        2000,
        None,
    ),
}

ALWAYS = {
    "timesteps", "iterations", "fps", "time_elapsed", "learning_rate",
    "rollout_time", "learning_time", "epoch_time",
    "episode_reward", "episode_reward_mean", "episode_reward_std", "episode_reward_min", "episode_reward_max",
    "episode_length", "episode_length_mean", "episode_length_std", "episode_length_min", "episode_length_max",
}  # fmt: skip
PPO_FAMILY = {
    "n_updates", "policy_loss", "value_loss", "total_loss", "entropy", "kl_divergence", "explained_variance",
    "clip_fraction", "clip_range", "grad_norm",
}  # fmt: skip
SAC_FAMILY = {"n_updates", "policy_loss", "critic_loss", "entropy_coefficient", "entropy_coefficient_loss", "episodes"}
# QRDQN clips no gradients unless it is told to.
BESIDES: dict[str, set[str]] = {
    "PPO": PPO_FAMILY,
    "A2C": {"n_updates", "policy_loss", "value_loss", "entropy", "explained_variance", "grad_norm"},
    "SAC": SAC_FAMILY,
    "TD3": {"n_updates", "policy_loss", "critic_loss", "episodes"},
    "DDPG": {"n_updates", "policy_loss", "critic_loss", "episodes"},
    "DQN": {"n_updates", "q_loss", "exploration_rate", "episodes", "grad_norm"},
    "TQC": SAC_FAMILY,
    "TRPO": {
        "n_updates", "policy_loss", "policy_objective", "value_loss", "kl_divergence", "explained_variance",
        "is_line_search_success",
    },
    "QRDQN": {"n_updates", "q_loss", "exploration_rate", "episodes"},
    "RecurrentPPO": PPO_FAMILY,
    "MaskablePPO": PPO_FAMILY,
    "CrossQ": SAC_FAMILY,
    "ARS": {"rollout/ep_rew_mean", "rollout/ep_len_mean", "train/iterations", "delta_std", "step_size", "return_std"},
}  # fmt: skip


def learn(model: Any, timesteps: int, log_interval: int | None, callbacks: list[BaseCallback]) -> None:
    model.learn(timesteps, callback=callbacks, **({} if log_interval is None else {"log_interval": log_interval}))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_points_are_those_of_its_own_file_and_what_that_loses(algorithm: str, tmp_path: Path) -> None:
    make, timesteps, log_interval = ALGORITHMS[algorithm]
    default, native = AdapterLogger(), AdapterLogger(names="native")
    model = make(str(tmp_path))
    learn(model, timesteps, log_interval, [*make_callbacks(default), *make_callbacks(native)])
    last = model.num_timesteps

    written = scalars(tmp_path)
    assert len(written["time/fps"]) >= 3
    table = name_table(model, keys_of_ours(model, follows=True))
    for tag, points in written.items():
        rename = table.lookup(tag)
        scaled = [(step, value / rename.scale) for step, value in default.points(rename.canonical)]
        for ours in (scaled, native.points(tag)):
            assert same(ours[: len(points)], points), (tag, ours, points)
            assert [step for step, _ in ours[len(points) :]] in ([], [last]), tag

    assert default.names == ALWAYS | BESIDES[algorithm]
    assert default.warnings == native.warnings == {}
    # The last update's values, which the file has not.
    if "n_updates" in default.names:
        assert default.points("n_updates")[-1] == (last, model._n_updates)
    assert default.points("timesteps")[-1] == (last, last)
    finished = model.env.finished
    for name, index in (("episode_reward", 1), ("episode_length", 2)):
        ended: dict[int, list[float]] = {}
        for episode in finished:
            ended.setdefault(episode[0], []).append(episode[index])
        assert default.points(name) == [(step, pytest.approx(np.mean(values))) for step, values in ended.items()]
        for step, mean in default.points(f"{name}_mean"):
            known = [episode[index] for episode in finished if episode[0] <= step][-100:]
            assert mean == pytest.approx(np.mean(known))
            assert dict(default.points(f"{name}_std"))[step] == pytest.approx(np.std(known))
    report.keep("stable-baselines3", algorithm, default.names)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_at_every_step_each_value_recorded_is_there_once(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, timesteps, log_interval = ALGORITHMS[algorithm]
    recorded: dict[str, dict[int, list[float]]] = {}
    inner = Logger.record

    def record(self: Logger, key: str, value: Any, exclude: Any = None) -> None:
        if value is not None:
            recorded.setdefault(key, {}).setdefault(model.num_timesteps, []).append(float(value))
        inner(self, key, value, exclude)

    monkeypatch.setattr(Logger, "record", record)
    logger = AdapterLogger("step", names="native")
    model = make(None)
    learn(model, timesteps, log_interval, make_callbacks(logger))
    assert recorded.keys() >= {"time/fps", "train/learning_rate"}
    for key, values in recorded.items():
        reduce = np.mean if reduction(key) == "mean" else lambda window: window[-1]
        expected = [(step, float(reduce(window))) for step, window in values.items()]
        found = logger.points(key)
        assert [step for step, _ in found] == [step for step, _ in expected], key
        for (_, value), (_, other) in zip(found, expected, strict=True):
            assert value == pytest.approx(other, rel=1e-12) or (math.isnan(value) and math.isnan(other)), key
    assert logger.warnings == {}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_configuration_has_what_its_constructor_takes(algorithm: str) -> None:
    make, *_ = ALGORITHMS[algorithm]
    model = make(None)
    config: Any = json_safe(configuration(model))
    taken = inspect.signature(type(model).__init__).parameters.keys()
    elsewhere = {"self", "policy", "env", "seed", "_init_setup_model"}
    # A2C makes the optimizer in its policy_kwargs of these two.
    made_into_others = {"use_rms_prop", "rms_prop_eps"}
    assert config["algo"].keys() >= taken - elsewhere - made_into_others
    assert isinstance(config["algo"]["learning_rate"], float)
    assert config["algo"]["device"] == "cpu"
    assert config["num_envs"] == model.n_envs
    assert config["seed"] == 0
    assert {"observation_space", "action_space"} <= config["env"].keys()
    if algorithm == "ARS":
        assert config["algo"]["delta_std"] == 0.05
