"""Evaluation beside real trainings, read back from the journal."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import (
    CallbackList,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.callbacks import EvalCallback as TheirEvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecFrameStack,
    VecNormalize,
    unwrap_vec_normalize,
)

from rl_logging.adapters.stable_baselines3 import EvalCallback, MetricsCallback, load_checkpoint
from tests.support.sb3_callbacks import (
    Corridor,
    Scripted,
    cartpoles,
    dqn,
    open_run,
    points,
    ppo,
    saved_models,
    small,
    videos,
)

FIGURES = ("reward_mean", "reward_std", "reward_min", "reward_max", "length_mean")


@pytest.mark.parametrize("n_envs", [1, 2, 3])
def test_it_evaluates_every_so_many_environment_steps(n_envs: int, tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        callbacks = logger.get_callbacks("CartPole-v1", eval={"every_steps": 50, "episodes": 2})
        model = ppo(cartpoles(n_envs), n_steps=32)
        model.learn(192, callback=callbacks)
        expected = [-(-multiple // n_envs) * n_envs for multiple in (50, 100, 150)]
        assert [step for step, _ in points(logger, "eval/episode_reward_mean")] == expected
        for name in FIGURES:
            assert len(points(logger, f"eval/episode_{name}")) == len(expected), name
        assert points(logger, "eval/success_rate") == []


def test_the_figures_are_those_of_the_episodes(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        evaluation = EvalCallback(logger, lambda: gym.make("CartPole-v1"), every_steps=64, episodes=4, seed=3)
        model = ppo()
        model.learn(64, callback=evaluation)
        assert evaluation.eval_env is not None
        # The policy that was evaluated is the one before the update: of the same seed, that of no training.
        again = ppo()
        returns = []
        env = gym.make("CartPole-v1")
        observation, _ = env.reset(seed=3)
        for _ in range(4):
            total, over = 0.0, False
            while not over:
                action, _ = again.predict(observation, deterministic=True)
                observation, reward, terminated, truncated, _ = env.step(action)
                total, over = total + float(reward), terminated or truncated
            returns.append(total)
            observation, _ = env.reset()
        found = {name: points(logger, f"eval/episode_{name}") for name in FIGURES}
        assert found == {
            "reward_mean": [(64, np.mean(returns))],
            "reward_std": [(64, pytest.approx(np.std(returns)))],
            "reward_min": [(64, min(returns))],
            "reward_max": [(64, max(returns))],
            "length_mean": [(64, np.mean(returns))],
        }


def test_it_agrees_with_stable_baselines3s_own(tmp_path: Path) -> None:
    theirs = TheirEvalCallback(
        make_vec_env("CartPole-v1", seed=5), n_eval_episodes=3, eval_freq=32, verbose=0, log_path=str(tmp_path)
    )
    with open_run(tmp_path) as logger:
        ours = EvalCallback(logger, make_vec_env("CartPole-v1", seed=5), every_steps=64, episodes=3)
        ppo().learn(256, callback=[ours, theirs])
        mine = points(logger, "eval/episode_reward_mean")
    assert [step for step, _ in mine] == theirs.evaluations_timesteps == [64, 128, 192, 256]
    assert [value for _, value in mine] == [float(np.mean(row)) for row in theirs.evaluations_results]


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("make", [ppo, dqn])
def test_training_is_the_same_with_and_without_it(make: Any, deterministic: bool, tmp_path: Path) -> None:
    class Restless(Corridor):
        """Uses every global generator there is, and when it is made, too."""

        def __init__(self) -> None:
            super().__init__()
            self._draw()

        def reset(self, **options: Any) -> Any:
            self._draw()
            return super().reset(**options)

        def _draw(self) -> None:
            random.random()
            np.random.random()
            torch.rand(1)

    def train(callback: Any = None) -> tuple[dict[str, torch.Tensor], float, float, float]:
        model = make(Monitor(Corridor()))
        model.learn(200, callback=callback)
        return model.policy.state_dict(), random.random(), float(np.random.random()), float(torch.rand(1))

    plain, *numbers = train()
    with open_run(tmp_path) as logger:
        callback = EvalCallback(logger, Restless, every_steps=20, episodes=3, deterministic=deterministic)
        watched, *others = train([MetricsCallback(logger), callback])
        assert len(points(logger, "eval/episode_reward_mean")) >= 9
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
    assert numbers == others


def test_sampling_is_the_evaluations_own_and_repeatable(tmp_path: Path) -> None:
    curves = []
    for run in range(2):
        with open_run(tmp_path, id=f"run{run}") as logger:
            callback = EvalCallback(logger, "CartPole-v1", every_steps=32, episodes=3, deterministic=False)
            ppo().learn(128, callback=callback)
            curves.append(points(logger, "eval/episode_reward_mean"))
    assert curves[0] == curves[1]
    assert len({value for _, value in curves[0]}) > 1


def test_the_policys_mode_is_put_back(tmp_path: Path) -> None:
    modes = []

    class Watching(EvalCallback):
        def _on_step(self) -> bool:
            self.model.policy.set_training_mode(True)
            goes_on = super()._on_step()
            modes.append(self.model.policy.training)
            return goes_on

    with open_run(tmp_path) as logger:
        ppo().learn(64, callback=Watching(logger, "CartPole-v1", every_steps=16, episodes=1))
    assert modes
    assert all(modes)


def test_success_is_logged_where_infos_tell_of_it(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        evaluation = EvalCallback(logger, Scripted(1, 0, 0, 0, 2, 0, 3, 4), every_steps=32, episodes=4)
        ppo(make_vec_env(Corridor, n_envs=2)).learn(64, callback=evaluation)
        assert points(logger, "eval/success_rate") == [(32, 0.25), (64, 0.75)]


def test_the_best_model_is_kept_with_its_normalizer(tmp_path: Path) -> None:
    env = VecNormalize(make_vec_env(Corridor, n_envs=2))
    with open_run(tmp_path) as logger:
        evaluation = EvalCallback(logger, Scripted(-2, 0, 3, 3, 2, 3, 1, 5, 4, 6), every_steps=64, episodes=2)
        ppo(env).learn(320, callback=evaluation)
        assert [value for _, value in points(logger, "eval/episode_reward_mean")] == [-1, 3, 2.5, 3, 5]
        best = saved_models(logger, "best")
        rising = [(64, -1.0), (128, 3.0), (320, 5.0)]
        assert [(record.step, record.metadata["eval/episode_reward_mean"]) for record in best] == rising
        assert [record.aliases for record in best] == [("best",)] * len(rising)
        # No store needs the earlier ones.
        (folder,) = (logger.run_dir / "models" / "best").iterdir()
        assert evaluation.best_mean_reward == rising[-1][1]
        loaded = load_checkpoint(folder)
    assert loaded.num_timesteps == rising[-1][0]
    assert loaded.get_vec_normalize_env().obs_rms.count == pytest.approx(rising[-1][0] + 2, abs=1)
    assert json.loads((folder / "metadata.json").read_text())["metadata"]["eval/episodes"] == 2


def test_a_run_that_is_gone_on_with_knows_its_best(tmp_path: Path) -> None:
    for returns, expected in (((1, 5), [64, 128]), ((4, 6), [64, 128, 128])):
        with open_run(tmp_path, {"rl_logging": {"resume": "auto"}}, id="one") as logger:
            env = make_vec_env(Corridor, n_envs=2)
            ppo(env).learn(128, callback=EvalCallback(logger, Scripted(*returns), every_steps=64, episodes=1))
            assert [record.step for record in saved_models(logger, "best")] == expected


def test_it_may_keep_none_and_log_no_best(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        ppo().learn(64, callback=logger.get_callbacks("CartPole-v1", eval={"every_steps": 32, "save_best": False}))
        assert len(points(logger, "eval/episode_reward_mean")) == 2
        assert saved_models(logger, "best") == []


@pytest.mark.parametrize("given", ["bare", "normalized", "vectorized"])
def test_a_normalizer_is_synchronized_and_does_not_train(given: str, tmp_path: Path) -> None:
    shift = 50.0
    env = VecNormalize(make_vec_env(lambda: Corridor(shift=shift), n_envs=2))
    eval_env: Any = {
        "bare": lambda: Corridor(shift=shift),
        "normalized": lambda: VecNormalize(make_vec_env(lambda: Corridor(shift=shift), n_envs=1)),
        "vectorized": lambda: make_vec_env(lambda: Corridor(shift=shift), n_envs=3),
    }[given]()
    seen = []

    class Looking(EvalCallback):
        def _evaluate(self) -> Any:
            result = super()._evaluate()
            mine, theirs = unwrap_vec_normalize(self.eval_env), unwrap_vec_normalize(self.training_env)
            seen.append((mine.obs_rms.mean.copy(), theirs.obs_rms.mean.copy(), mine.training, mine.norm_reward))
            return result

    with open_run(tmp_path) as logger:
        ppo(env).learn(128, callback=Looking(logger, eval_env, every_steps=64, episodes=3))
        assert all(0 <= mean <= 1 for _, mean in points(logger, "eval/episode_reward_mean"))  # none is normalized
    assert len(seen) == 2
    for mine, theirs, trains, norm_reward in seen:
        np.testing.assert_array_equal(mine, theirs)
        assert not trains
        assert not norm_reward
    assert abs(seen[0][0][0] - shift) < 5
    assert seen[0][0][0] != seen[1][0][0]


def test_each_training_has_it_wrapped_anew(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        evaluation = EvalCallback(logger, "CartPole-v1", every_steps=64, episodes=1)
        for env in (VecNormalize(cartpoles()), cartpoles(), VecFrameStack(cartpoles(), 2), VecNormalize(cartpoles())):
            ppo(env).learn(64, callback=evaluation)
            assert evaluation.eval_env is not None
            assert (unwrap_vec_normalize(evaluation.eval_env) is None) == (unwrap_vec_normalize(env) is None)
            assert evaluation.eval_env.observation_space == env.observation_space
        assert len(points(logger, "eval/episode_reward_mean")) == 4


def test_it_is_wrapped_as_the_training_is(tmp_path: Path) -> None:
    env = VecNormalize(VecFrameStack(make_vec_env(Corridor, n_envs=2), n_stack=3))
    with open_run(tmp_path) as logger:
        evaluation = EvalCallback(logger, Corridor(), every_steps=64)
        ppo(env).learn(64, callback=evaluation)
        assert evaluation.eval_env is not None
        assert evaluation.eval_env.observation_space.shape == (6,)
        assert len(points(logger, "eval/episode_reward_mean")) == 1


class Pictures(gym.Env[Any, Any]):
    observation_space = gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, **options: Any) -> Any:
        super().reset(**options)
        return np.zeros((36, 36, 3), np.uint8), {}

    def step(self, action: Any) -> Any:
        return np.zeros((36, 36, 3), np.uint8), 1.0, False, True, {}


def test_pictures_are_transposed_as_in_training(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        evaluation = EvalCallback(logger, Pictures(), every_steps=8)
        PPO("CnnPolicy", Pictures(), n_steps=8, batch_size=8, n_epochs=1, device="cpu").learn(8, callback=evaluation)
        assert evaluation.eval_env is not None
        assert evaluation.eval_env.observation_space.shape == (3, 36, 36)
        assert points(logger, "eval/episode_reward_mean") == [(8, 1.0)]


@pytest.mark.parametrize("algorithm", ["MaskablePPO", "RecurrentPPO", "CrossQ", "ARS"])
def test_the_algorithms_of_contrib(algorithm: str, tmp_path: Path) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    options: dict[str, Any] = {
        "MaskablePPO": {"n_steps": 32, "batch_size": 32, "n_epochs": 1},
        "RecurrentPPO": {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "policy_kwargs": {"lstm_hidden_size": 8}},
        "CrossQ": {"learning_starts": 10, "batch_size": 8},
        "ARS": {"n_delta": 2, "policy_kwargs": {}},
    }[algorithm]
    policy = {"RecurrentPPO": "MlpLstmPolicy", "ARS": "LinearPolicy"}.get(algorithm, "MlpPolicy")
    make: Any = Corridor
    if algorithm == "CrossQ":
        make = lambda: gym.make("Pendulum-v1", max_episode_steps=10)  # noqa: E731
    model = getattr(contrib, algorithm)(policy, Monitor(make()), **{**small(), **options})
    with open_run(tmp_path) as logger:
        callbacks = [MetricsCallback(logger), EvalCallback(logger, make, every_steps=32, episodes=2)]
        model.learn(64, callback=callbacks)
        means = points(logger, "eval/episode_reward_mean")
        assert means
        if algorithm == "MaskablePPO":  # its masks leave it the way to the right alone
            assert {value for _, value in means} == {1.0}
        assert type(load_checkpoint(logger.run_dir / "models" / "best")).__name__ == algorithm


def test_the_environment_is_made_like_the_loggers(tmp_path: Path) -> None:
    inner = gym.wrappers.TimeLimit(gym.make("Pendulum-v1", g=5.0, render_mode="rgb_array"), 7)
    env = Monitor(gym.wrappers.RecordVideo(inner, str(tmp_path / "theirs"), step_trigger=lambda step: False))
    with open_run(tmp_path, {"rl_logging": {"eval": {"every_steps": 20}}}, env) as logger:
        _, evaluation = logger.get_callbacks()
        PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, device="cpu").learn(32, callback=evaluation)
        assert points(logger, "eval/episode_length_mean") == [(20, 7.0)]
        made = evaluation.eval_env.envs[0]
        assert made.unwrapped is not env.unwrapped
        assert made.unwrapped.g == 5.0
        assert made.render_mode is None
    with open_run(tmp_path, {"rl_logging": {"eval": True}}, make_vec_env("CartPole-v1", n_envs=2)) as logger:
        assert len(logger.get_callbacks()) == 2


def test_without_an_environment_it_says_what_to_give(tmp_path: Path) -> None:
    class Wrapper(gym.Wrapper[Any, Any, Any, Any]):
        pass

    vec = cartpoles()
    with pytest.raises(ValueError, match=r"no environment to evaluate in: give one, as get_callbacks\(eval_env="):
        open_run(tmp_path, {"rl_logging": {"eval": True}}).get_callbacks()
    for env, says in (
        (Corridor(), "Corridor has no spec"),
        (Wrapper(gym.make("CartPole-v1")), "wrapper Wrapper does not say how"),
    ):
        with pytest.raises(ValueError, match=says):
            EvalCallback(open_run(tmp_path, env=env))
    with pytest.raises(ValueError, match="a int is no environment"):
        EvalCallback(open_run(tmp_path), 7)
    for env in (vec, vec.envs[0].unwrapped):
        with pytest.raises(ValueError, match="the training's own environment"):
            EvalCallback(open_run(tmp_path, env=vec), env)
        with pytest.raises(ValueError, match="the training's own environment"):
            ppo(vec).learn(64, callback=EvalCallback(open_run(tmp_path), env))
    for env, says in (
        (gym.make("Pendulum-v1"), "its observation_space Box.* is not the training's"),
        (VecFrameStack(cartpoles(1), 2), "wrapped the same way"),
    ):
        with pytest.raises(ValueError, match=says):
            ppo(VecNormalize(cartpoles())).learn(64, callback=EvalCallback(open_run(tmp_path), env))
    with pytest.raises(ValueError, match="one alone has a VecNormalize"):
        ppo(cartpoles()).learn(64, callback=EvalCallback(open_run(tmp_path), VecNormalize(cartpoles(1))))


def test_an_evaluation_that_fails_is_told_once_and_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_run(tmp_path) as logger:
        callback = EvalCallback(logger, Scripted(1, 2, 3), every_steps=32, episodes=2)
        model = ppo(make_vec_env(Corridor, n_envs=2))
        model.learn(320, callback=[MetricsCallback(logger), callback])
        assert model.num_timesteps == 320
        assert [step for step, _ in points(logger, "eval/episode_reward_mean")] == [32]
        assert points(logger, "timesteps")[-1] == (320, 320.0)
    (told,) = [entry.getMessage() for entry in caplog.records if "the evaluation at" in entry.getMessage()]
    assert "RuntimeError: the simulator is gone" in told
    assert "the training goes on" in told


def test_without_monitor_it_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_run(tmp_path) as logger:
        env = DummyVecEnv([lambda: gym.make("CartPole-v1")])
        ppo().learn(64, callback=EvalCallback(logger, env, every_steps=64))
        assert len(points(logger, "eval/episode_reward_mean")) == 1
    assert "has no Monitor" in caplog.text


def test_what_is_called_on_a_new_best_may_end_the_training(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        stop = StopTrainingOnRewardThreshold(reward_threshold=1.0)
        callbacks = logger.get_callbacks("CartPole-v1", eval={"every_steps": 64}, callback_on_new_best=stop)
        model = ppo()
        model.learn(640, callback=callbacks)
        assert model.num_timesteps == 64
        stop_later = StopTrainingOnNoModelImprovement(max_no_improvement_evals=1, min_evals=0)
        always_one = gym.wrappers.TimeLimit(gym.make("CartPole-v1"), 1)
        callbacks = [EvalCallback(logger, always_one, every_steps=64, callback_after_eval=stop_later)]
        model.learn(6_400, callback=callbacks, reset_num_timesteps=False)
        assert model.num_timesteps == 64 + 3 * 64  # the first is the best, the next two are not better


def test_several_trainings_are_on_one_clock(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        evaluation = EvalCallback(logger, "CartPole-v1", every_steps=100, episodes=1)
        model = ppo()
        model.learn(128, callback=CallbackList([evaluation]))
        model.learn(128, callback=CallbackList([evaluation]), reset_num_timesteps=False)
        logger.log_metrics({"mine": 1.0})
        model.learn(128, callback=CallbackList([evaluation, MetricsCallback(logger)]))
        dqn().learn(120, callback=[MetricsCallback(logger), evaluation])
        steps = [step for step, _ in points(logger, "eval/episode_reward_mean")]
        assert steps == [100, 200, 256 + 100, 384 + 100]
        assert points(logger, "mine") == [(256, 1.0)]


def test_the_final_score_is_the_mean_of_the_last_evaluations(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        assert logger.get_final_score() is None
        ppo().learn(128, callback=logger.get_callbacks("CartPole-v1", eval={"every_steps": 32, "episodes": 2}))
        means = [value for _, value in points(logger, "eval/episode_reward_mean")]
        assert len(means) == 4
        assert logger.get_final_score() == pytest.approx(np.mean(means))
    assert logger.get_final_score() == pytest.approx(np.mean(means))
    with open_run(tmp_path) as logger:
        for score in range(12):
            logger.log_metrics({"eval": {"mean_reward": score}, "other": 100})
        assert logger.get_final_score() == np.mean(range(2, 12))


def test_the_final_score_of_a_resumed_run_counts_its_earlier_parts(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        for score in range(6):
            logger.log_metrics({"eval/episode_reward_mean": score}, step=score)
    with open_run(tmp_path, resume=logger.run_dir) as again:
        assert again.get_final_score() == np.mean(range(6))
        for score in range(6, 12):
            again.log_metrics({"eval/episode_reward_mean": score}, step=score)
        assert again.get_final_score() == np.mean(range(2, 12))
    with open_run(tmp_path, resume=logger.run_dir) as again:
        again.log_metrics({"eval/episode_reward_mean": 100.0}, step=12)
        assert again.get_final_score() == np.mean([*range(3, 12), 100])
    assert again.get_final_score() == np.mean([*range(3, 12), 100])
    with open_run(tmp_path, {"rl_logging": {"resume_step": 3}}, resume=logger.run_dir) as back:
        assert back.get_final_score() == np.mean(range(4))


def test_a_recorder_in_its_environment_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gym.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=8)
    env = gym.wrappers.RecordVideo(env, str(tmp_path / "v"), episode_trigger=lambda _: True, disable_logger=True)
    with open_run(tmp_path) as logger:
        ppo().learn(64, callback=EvalCallback(logger, Monitor(env), every_steps=40, episodes=2))
        env.close()
    assert [(video.name, video.step) for video in videos(logger)] == [("eval/videos/rl-video", 40)] * 2 + [
        ("eval/videos/rl-video", 64)
    ]
