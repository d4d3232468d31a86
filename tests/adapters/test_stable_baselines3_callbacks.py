"""Which callbacks a run gets, and the base class for one's own."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.env_util import make_vec_env

import rl_logging.adapters.stable_baselines3 as adapter
from rl_logging import ExperimentLogger, SettingsError
from rl_logging.adapters.stable_baselines3 import (
    CheckpointCallback,
    EvalCallback,
    ExperimentCallback,
    MetricsCallback,
    RunCallback,
    VideoRecorderCallback,
    WandbCallback,
    progress,
)
from rl_logging.journal import JournalReader
from rl_logging.records import Metrics, Model, decode
from rl_logging.settings.callbacks import EvalSettings, VideoSettings
from tests.support.sb3_callbacks import Corridor, cartpoles, dqn, open_run, points, ppo, saved_models


def kinds(callbacks: list[BaseCallback]) -> list[type]:
    return [type(callback) for callback in callbacks]


def filmed() -> Corridor:
    return Corridor(render_mode="rgb_array")


def test_without_settings_there_are_metrics_alone(tmp_path: Path) -> None:
    assert kinds(open_run(tmp_path).get_callbacks()) == [MetricsCallback]
    assert kinds(open_run(tmp_path, {"env": {"id": "x"}, "video": {"fps": 3}}).get_callbacks()) == [MetricsCallback]
    assert WandbCallback is MetricsCallback


@pytest.mark.parametrize(
    ("config", "arguments", "expected"),
    [
        (
            {"eval": True, "checkpoint": True, "video": True},
            {},
            [EvalCallback, CheckpointCallback, VideoRecorderCallback],
        ),
        ({"checkpoint": {"keep_last": 3}}, {}, [CheckpointCallback]),
        ({"eval": True}, {"eval": False, "checkpoint": True}, [CheckpointCallback]),
        ({}, {"eval": {"episodes": 2}}, [EvalCallback]),
        ({}, {"video": {"fps": 2}}, [VideoRecorderCallback]),
        ({}, {"video_env": filmed}, [VideoRecorderCallback]),
        ({"video": False}, {"video_env": filmed}, [VideoRecorderCallback]),
        ({"eval": None}, {"video": None, "checkpoint": None}, [EvalCallback]),
    ],
)
def test_what_the_settings_and_the_arguments_ask_for(
    config: dict[str, Any], arguments: dict[str, Any], expected: list[type], tmp_path: Path
) -> None:
    logger = open_run(tmp_path, {"rl_logging": config})
    given = {} if expected == [CheckpointCallback] else {"eval_env": filmed}
    if "video_env" in arguments:
        given = {}
    found = kinds(logger.get_callbacks(**given, **arguments))
    wanted = [MetricsCallback, *expected]
    if given and EvalCallback not in wanted:  # an environment for it asks for it
        wanted.insert(1, EvalCallback)
    assert found == wanted


def test_arguments_go_over_the_configurations_settings(tmp_path: Path) -> None:
    config = {"rl_logging": {"eval": {"every_steps": 500, "episodes": 3}, "checkpoint": {"keep_last": 4}}}
    with open_run(tmp_path, config) as logger:
        _, evaluation, checkpoint = logger.get_callbacks("CartPole-v1", eval={"episodes": 7, "seed": 1})
        assert evaluation.settings == EvalSettings(every_steps=500, episodes=7, seed=1)
        assert checkpoint.settings.keep_last == 4


def test_the_other_loggers_keys_are_read(tmp_path: Path) -> None:
    config = {
        "experiment": {"name": "x", "eval_frequency": 64},
        "video": {"enabled": True, "record_freq": 32, "fps": 4, "num_episodes": 2},
    }
    with open_run(tmp_path, config) as logger:
        _, evaluation, video = logger.get_callbacks(filmed)
        assert evaluation.settings == EvalSettings(every_steps=64)
        assert video.settings == VideoSettings(every_steps=32, fps=4, episodes=2)
        ppo(make_vec_env(Corridor, n_envs=2)).learn(64, callback=[evaluation, video])
        assert [step for step, _ in points(logger, "eval/episode_reward_mean")] == [64]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda logger: logger.get_callbacks("CartPole-v1", eval_freq=100), "eval_freq: .* counts calls.* every_steps"),
        (lambda logger: logger.get_callbacks(save_freq=100), "save_freq: .* counts calls.* every_steps"),
        (lambda logger: EvalCallback(logger, "CartPole-v1", eval_freq=100), "EvalCallback: eval_freq: .*every_steps"),
        (lambda logger: EvalCallback(logger, "CartPole-v1", n_eval_episodes=1), "n_eval_episodes: .*give episodes"),
        (lambda logger: CheckpointCallback(logger, save_freq=100), "CheckpointCallback: save_freq: .*every_steps"),
        (lambda logger: CheckpointCallback(logger, save_path="x"), "save_path: .*kept in the run directory"),
        (lambda logger: VideoRecorderCallback(logger, filmed, record_freq=9), "record_freq: .*every_steps"),
        (lambda logger: VideoRecorderCallback(logger, filmed, epsiodes=9), r"epsiodes: .*did you mean 'episodes'"),
        (lambda logger: logger.get_callbacks(chekpoint=True), r"chekpoint: .*did you mean 'checkpoint'"),
    ],
)
def test_arguments_that_there_are_not_name_the_right_one(make: Any, says: str, tmp_path: Path) -> None:
    with open_run(tmp_path) as logger, pytest.raises(TypeError, match=says):
        make(logger)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda logger: EvalCallback(logger, filmed, every_steps=0), "EvalCallback.every_steps: got 0"),
        (lambda logger: logger.get_callbacks(filmed, eval={"eval_freq": 3}), "eval.eval_freq: .*every_steps"),
        (lambda logger: logger.get_callbacks(checkpoint={"upload": "some"}), "checkpoint.upload: 'some' is not one of"),
        (lambda logger: logger.get_callbacks(checkpoint={"upload": "best"}), "'best' needs rl_logging.eval"),
        (lambda logger: logger.get_callbacks(checkpoint="often"), "checkpoint: got 'often'"),
        (lambda logger: CheckpointCallback(logger, keep_last=0), "keep_last: got 0"),
    ],
)
def test_wrong_values_are_named(make: Any, says: str, tmp_path: Path) -> None:
    with open_run(tmp_path) as logger, pytest.raises(SettingsError, match=says):
        make(logger)


def test_the_order_of_callbacks_does_not_matter(tmp_path: Path) -> None:
    found = []
    for number, order in enumerate((lambda them: them, lambda them: them[::-1], lambda them: [CallbackList(them)])):
        config = {"rl_logging": {"eval": {"every_steps": 48}, "checkpoint": {"every_steps": 48}}}
        with open_run(tmp_path, config, id=f"run{number}") as logger:
            ppo().learn(128, callback=order(logger.get_callbacks("CartPole-v1")))
            found.append(
                (
                    points(logger, "eval/episode_reward_mean"),
                    [record.step for record in saved_models(logger, "checkpoint")],
                    points(logger, "policy_loss"),
                    points(logger, "timesteps"),
                )
            )
    assert found[0] == found[1] == found[2]
    assert [step for step, _ in found[0][0]] == [48, 96]
    assert found[0][3][-1] == (128, 128.0)


def test_off_policy_algorithms_are_counted_alike(tmp_path: Path) -> None:
    config = {"rl_logging": {"eval": {"every_steps": 40}, "checkpoint": {"every_steps": 40}}}
    with open_run(tmp_path, config, cartpoles(1)) as logger:
        dqn(train_freq=(1, "episode")).learn(100, callback=logger.get_callbacks())
        assert [step for step, _ in points(logger, "eval/episode_reward_mean")][:2] == [40, 80]
        assert [record.step for record in saved_models(logger, "checkpoint")][:2] == [40, 80]


# One's own callbacks.


class Bonus(ExperimentCallback):
    def _on_step(self) -> bool:
        if self.n_calls % 16 == 0:
            self.experiment.log_metrics({"my/bonus": self.n_calls})
            self.logger.record("my/recorded", 2.0)
        return True


@pytest.mark.parametrize("with_metrics", [True, False])
def test_a_callback_of_ones_own_logs_at_the_trainings_step(with_metrics: bool, tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        callbacks = [Bonus(logger), *(logger.get_callbacks() if with_metrics else [])]
        model = ppo()
        model.learn(64, callback=callbacks)
        model.learn(64, callback=callbacks)
        logger.log_metrics({"after": 1})
        assert [step for step, _ in points(logger, "my/bonus")] == [32, 64, 96, 128]
        assert points(logger, "after") == [(128, 1.0)]
        assert bool(points(logger, "my/recorded")) is with_metrics


class Copied(ExperimentCallback):
    """As the other logger's document writes it, with our base class."""

    def __init__(self, logger: ExperimentLogger) -> None:
        super().__init__()
        self.logger = logger

    def _on_step(self) -> bool:
        return True


def test_setting_the_logger_says_what_to_write(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        with pytest.raises(AttributeError, match=r"Copied: 'logger' is .* write super\(\).__init__\(logger\) instead"):
            Copied(logger)
        says = r"the experiment is a {}, not an ExperimentLogger: write super\(\).__init__\(logger\)"
        with pytest.raises(TypeError, match="Bonus: " + says.format("int")):
            Bonus(1)
        with pytest.raises(TypeError, match="Bonus: " + says.format("NoneType")):
            ppo().learn(64, callback=Bonus())
        with pytest.raises(TypeError, match="EvalCallback: " + says.format("NoneType")):
            EvalCallback(None, "CartPole-v1")
        late = Bonus()
        late.experiment = logger
        ppo().learn(64, callback=late)
        assert [step for step, _ in points(logger, "my/bonus")] == [32, 64]


class Forgetful(ExperimentCallback):
    def __init__(self, logger: ExperimentLogger) -> None:
        self.experiment = logger

    def _on_step(self) -> bool:
        return True


def test_a_constructor_that_forgets_the_base_class_is_told_what_to_write(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        says = r"Forgetful: its __init__ does not call .* begin it with super\(\).__init__\(logger\)"
        with pytest.raises(TypeError, match=says):
            ppo().learn(64, callback=[Forgetful(logger)])


class Long(ExperimentCallback):
    """Does something besides the training that takes a thousand seconds."""

    def __init__(self, logger: ExperimentLogger, spend: Callable[[float], None]) -> None:
        super().__init__(logger)
        self.spend = spend

    def _on_step(self) -> bool:
        self.attempt("a long thing", lambda: self.attempt("within another", lambda: self.spend(1000.0)))
        return True


@pytest.mark.parametrize("interval", ["step", "rollout"])
def test_the_time_of_what_is_done_besides_is_none_of_the_trainings(
    interval: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = [0.0]

    def now() -> float:
        at[0] += 0.001
        return at[0]

    def spend(seconds: float) -> None:
        at[0] += seconds

    monkeypatch.setattr(progress, "perf_counter", now)
    with open_run(tmp_path, {"rl_logging": {"interval": interval}}) as logger:
        ppo().learn(128, callback=[Long(logger, spend), *logger.get_callbacks()])
        assert at[0] > 64_000
    assert 0 < max(value for _, value in points(logger, "rollout_time")) < 1
    assert 0 < max(value for _, value in points(logger, "learning_time")) < 1
    assert min(value for _, value in points(logger, "fps")) > 100


def test_after_the_runs_end_the_training_still_goes_on(tmp_path: Path) -> None:
    config = {"rl_logging": {"eval": {"every_steps": 32}, "checkpoint": {"every_steps": 32}}}
    with open_run(tmp_path, config, cartpoles()) as logger:
        callbacks = logger.get_callbacks()
        model = ppo()
        model.learn(64, callback=callbacks)
    before = points(logger, "eval/episode_reward_mean")
    model.learn(64, callback=callbacks, reset_num_timesteps=False)
    assert model.num_timesteps == 128
    assert points(logger, "eval/episode_reward_mean") == before


def test_a_copy_logs_nothing(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        copy = pickle.loads(pickle.dumps(Bonus(logger)))
        ppo().learn(64, callback=copy)
        assert points(logger, "my/bonus") == []


# A run of its own.


def test_a_run_callback_is_a_run_for_each_training(tmp_path: Path) -> None:
    file = tmp_path / "logging.yaml"
    file.write_text(
        "rl_logging: {eval: {every_steps: 32}, checkpoint: {every_steps: 64}, delivery: offline, sinks: []}"
    )
    callback = RunCallback(str(file), dir=str(tmp_path / "runs"), quiet=True)
    model = ppo()
    for _ in range(2):
        model.learn(64, callback=[callback])
        callback.on_training_end()  # as RL Zoo does
    runs = sorted((tmp_path / "runs").glob("*/journal"))
    assert len(runs) == 2
    for journal in runs:
        found = [decode(envelope) for envelope in JournalReader(journal).read(1_000, final=True)]
        assert found[-1].kind == "end"
        names = {name for record in found if isinstance(record, Metrics) for name in record.values}
        assert {"eval/episode_reward_mean", "policy_loss"} <= names
        assert [record.name for record in found if isinstance(record, Model)].count("checkpoint") == 2
    with pytest.raises(SettingsError, match="evall"):
        RunCallback({"rl_logging": {"evall": True}})


def test_public_names() -> None:
    for name in ("EvalCallback", "CheckpointCallback", "VideoRecorderCallback", "WandbCallback", "load_checkpoint"):
        assert name in adapter.__all__
