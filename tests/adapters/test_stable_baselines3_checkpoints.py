"""Checkpoints of real trainings: when they are saved, how many stay, what the stores get, and loading them again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EveryNTimesteps
from stable_baselines3.common.callbacks import EvalCallback as StableBaselines3EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from rl_logging import ExperimentLogger
from rl_logging.adapters.stable_baselines3 import (
    CheckpointCallback,
    ExperimentCallback,
    MetricsCallback,
    load_checkpoint,
)
from rl_logging.testing import FileStore
from tests.support import wandb_file
from tests.support.sb3_callbacks import cartpoles, dqn, open_run, points, ppo, saved_models, small


def file_run(folder: Path, **keywords: Any) -> ExperimentLogger:
    """Opens a run that a thread delivers to a file; while ``hold`` is there, nothing is confirmed."""
    options = {"factory": "rl_logging.testing.files:make", "path": str(folder / "store.jsonl")}
    options["hold_while"] = str(folder / "hold")
    config = {"rl_logging": {"finish_timeout_s": 20}}
    keywords = {"dir": folder / "runs", "delivery": "thread", "sinks": {"file": options}, "quiet": True, **keywords}
    return ExperimentLogger(config, **keywords)


def stored(folder: Path) -> list[dict[str, Any]]:
    return [row for row in FileStore(folder / "store.jsonl").rows() if row["kind"] == "model"]


def folders(logger: ExperimentLogger, name: str = "checkpoint") -> list[str]:
    """Returns the versions in the run directory."""
    return sorted(path.name for path in (logger.run_dir / "models" / name).iterdir())


@pytest.mark.parametrize("n_envs", [1, 2, 3])
def test_it_saves_every_so_many_environment_steps_and_at_the_end(n_envs: int, tmp_path: Path) -> None:
    with open_run(tmp_path, {"rl_logging": {"checkpoint": {"every_steps": 50}}}) as logger:
        model = ppo(cartpoles(n_envs), n_steps=32)
        model.learn(120, callback=logger.get_callbacks())
        end = -(-120 // (32 * n_envs)) * 32 * n_envs
        due = [-(-multiple // n_envs) * n_envs for multiple in range(50, end + 1, 50)]
        found = saved_models(logger, "checkpoint")
        assert [record.step for record in found] == [*due, end]
        assert [record.metadata["checkpoint"] for record in found] == ["periodic"] * len(due) + ["final"]
        assert {record.aliases for record in found} == {("latest",)}
        # The last one has the last update.
        assert load_checkpoint(logger.run_dir / found[-1].path)._n_updates == model._n_updates
        assert folders(logger) == sorted(f"step_{step}" for step in (*due, end))


def test_the_last_few_stay_once_the_store_has_them(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    with file_run(tmp_path) as logger:
        callback = CheckpointCallback(logger, every_steps=32, keep_last=2)
        model = ppo()
        model.learn(128, callback=callback)
        everything = ["step_128", "step_128.2", "step_32", "step_64", "step_96"]
        assert folders(logger) == everything, "one that no store has confirmed is gone"
        assert not logger.flush(0.2)
        hold.unlink()
        assert logger.flush(30)
        model.learn(32, callback=callback, reset_num_timesteps=False)
        assert not set(everything) & set(folders(logger)[:-2]), "what is delivered need not stay"
    assert folders(logger) == ["step_192", "step_192.2"]
    assert [row["step"] for row in stored(tmp_path)] == [32, 64, 96, 128, 128, 160, 192, 192]
    files = tmp_path / "store.jsonl.files"
    assert len(list(files.rglob("model.zip"))) == 8


def test_the_last_few_of_a_resumed_run_are_those_of_all_its_parts(tmp_path: Path) -> None:
    for part in range(1, 4):
        with file_run(tmp_path, id="job", resume="auto") as logger:
            upload = "none" if part == 2 else "all"
            model = ppo()
            model.num_timesteps = 64 * (part - 1)  # as a checkpoint that is loaded has it
            callback = CheckpointCallback(logger, every_steps=64, keep_last=2, upload=upload)
            model.learn(64, callback=callback, reset_num_timesteps=False)
            logger.save_model({"weight": torch.zeros(1)}, "other", step=part)
        assert len(folders(logger)) == 2
    assert folders(logger) == ["step_192", "step_192.2"]
    assert len(folders(logger, "other")) == 3, "what has another name is not the callback's"


def test_without_a_number_a_resumed_run_keeps_all(tmp_path: Path) -> None:
    for _ in range(2):
        with file_run(tmp_path, id="job", resume="auto") as logger:
            ppo().learn(64, callback=CheckpointCallback(logger, every_steps=64))
    assert len(folders(logger)) == 4


def test_what_is_never_delivered_stays(tmp_path: Path) -> None:
    with open_run(tmp_path, sinks={"file": {"factory": "rl_logging.testing.files:make", "path": "store"}}) as logger:
        ppo().learn(128, callback=CheckpointCallback(logger, every_steps=32, keep_last=1))
    assert len(folders(logger)) == 5


def test_what_a_store_refused_stays(tmp_path: Path) -> None:
    options = {"factory": "rl_logging.testing.files:make", "path": str(tmp_path / "store"), "refuse": ["checkpoint"]}
    with ExperimentLogger(dir=tmp_path / "runs", delivery="thread", sinks={"file": options}, quiet=True) as logger:
        ppo().learn(128, callback=CheckpointCallback(logger, every_steps=64, keep_last=1))
        assert logger.flush(30)
    assert folders(logger) == ["step_128", "step_128.2", "step_64"]


def test_what_an_offline_wandb_run_refers_to_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("wandb")
    config = {"wandb": {"mode": "offline", "dir": str(tmp_path / "logs")}, "mlflow": False}
    with ExperimentLogger(config, dir=tmp_path / "runs", quiet=True) as logger:
        ppo().learn(64, callback=CheckpointCallback(logger, every_steps=32, keep_last=1))
    assert len(folders(logger)) == 3
    artifacts = wandb_file.read(tmp_path / "logs").artifacts
    assert len(artifacts) == 3
    for artifact in artifacts:
        assert all(Path(path).is_file() for path in artifact["files"].values())
    assert "what 'wandb' has of an offline run refers to them" in caplog.text


@pytest.mark.parametrize(
    ("upload", "checkpoints", "best"),
    [("all", [32, 64, 64], True), ("last", [64], False), ("best", [], True), ("none", [], False)],
)
def test_which_models_the_stores_get(upload: str, checkpoints: list[int], best: bool, tmp_path: Path) -> None:
    config = {"rl_logging": {"eval": {"every_steps": 32}, "checkpoint": {"every_steps": 32, "upload": upload}}}
    with open_run(tmp_path, config) as logger:
        ppo().learn(64, callback=logger.get_callbacks("CartPole-v1"))
        assert [record.step for record in saved_models(logger, "checkpoint")] == checkpoints
        assert bool(saved_models(logger, "best")) is best
        # In the run directory they all are.
        assert folders(logger) == ["step_32", "step_64", "step_64.2"]
        assert len(folders(logger, "best")) == 1


def test_local_ones_alone_are_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    with file_run(tmp_path) as logger:
        callback = CheckpointCallback(logger, every_steps=32, keep_last=1, upload="none")
        ppo().learn(128, callback=callback)
        assert folders(logger) == ["step_128.2"]
        (tmp_path / "hold").unlink()
    assert stored(tmp_path) == []


class Boom(BaseCallback):
    """Raises at a step.

    Args:
        step: Which.
        error: What.
    """

    def __init__(self, step: int, error: BaseException) -> None:
        super().__init__()
        self.step, self.error = step, error

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.step:
            raise self.error
        return True


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
@pytest.mark.parametrize("first", [True, False])
def test_a_training_that_is_broken_off_has_a_last_checkpoint(error: BaseException, first: bool, tmp_path: Path) -> None:
    logger = open_run(tmp_path)
    callback = CheckpointCallback(logger, every_steps=32)
    boom = Boom(50, error)
    with pytest.raises(type(error)), logger:
        ppo().learn(128, callback=[callback, boom] if first else [boom, callback])
    found = saved_models(logger, "checkpoint")
    assert [record.metadata["checkpoint"] for record in found] == ["periodic", "interrupted"]
    assert [record.step for record in found] == [32, 50], "whether it heard of the last step depends on the order"
    assert load_checkpoint(logger.run_dir / found[1].path).num_timesteps == 50


def test_the_last_one_is_not_saved_again_with_the_same_weights(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        # Nothing is learnt before step 50: what is saved at 40 is what is there at the end.
        model = dqn()
        model.learn(40, callback=CheckpointCallback(logger, every_steps=20))
        assert folders(logger) == ["step_20", "step_40"]
        assert [record.metadata["checkpoint"] for record in saved_models(logger, "checkpoint")] == ["periodic"] * 2
        # What the stores shall get at the end alone, and what has learnt since, is saved.
        model.learn(40, callback=CheckpointCallback(logger, every_steps=20, upload="last", name="last"))
        assert folders(logger, "last") == ["step_60", "step_80", "step_80.2"]
        ppo().learn(64, callback=CheckpointCallback(logger, every_steps=64, name="learnt"))
        assert folders(logger, "learnt") == ["step_144", "step_144.2"]


def test_a_training_that_ended_has_one_end(tmp_path: Path) -> None:
    logger = open_run(tmp_path)
    callback = CheckpointCallback(logger, every_steps=1_000)
    model = ppo()
    with pytest.raises(RuntimeError):
        model.learn(64, callback=[callback, Boom(40, RuntimeError())])
    model.learn(64, callback=callback)
    callback.on_training_end()  # as RL Zoo does
    logger.finish()
    assert [record.metadata["checkpoint"] for record in saved_models(logger, "checkpoint")] == ["final"]


@pytest.mark.parametrize("deep", [False, True])
def test_below_another_callback_a_checkpoint_has_the_step_it_is_saved_at(deep: bool, tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        callback: BaseCallback = CheckpointCallback(logger, every_steps=32)
        above = EveryNTimesteps(40, CallbackList([EveryNTimesteps(10, callback)]) if deep else callback)
        model = ppo()
        model.learn(64, callback=above)
        assert [record.step for record in saved_models(logger, "checkpoint")] == [40, 64]
        model.learn(64, callback=[above], reset_num_timesteps=False)
        assert "on_training_end" not in vars(above)
        with pytest.raises(KeyboardInterrupt):
            model.learn(64, callback=[above, Boom(150, KeyboardInterrupt())], reset_num_timesteps=False)
    found = saved_models(logger, "checkpoint")
    assert [record.step for record in found] == [40, 64, 120, 128, 150]
    assert [record.metadata["timesteps"] for record in found] == [record.step for record in found]
    assert [record.metadata["checkpoint"] for record in found[-2:]] == ["final", "interrupted"]
    for record in found:
        assert load_checkpoint(logger.run_dir / record.path).num_timesteps == record.step
    assert "on_training_end" not in vars(above)


def test_a_training_begun_anew_gives_the_last_checkpoint_its_step_in_the_run(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        model = ppo()
        metrics = MetricsCallback(logger)
        with pytest.raises(RuntimeError):
            model.learn(64, callback=[metrics, CheckpointCallback(logger), Boom(40, RuntimeError())])
        model.learn(64, callback=metrics)
    (record,) = saved_models(logger, "checkpoint")
    assert (record.step, record.metadata["timesteps"]) == (40 + 64, 64)


class Note(ExperimentCallback):
    def _on_step(self) -> bool:
        self.experiment.log_metrics({"best/note": 1.0})
        return True


@pytest.mark.parametrize("listed", [False, True])
def test_what_stable_baselines3_calls_at_a_new_best_alone_has_the_step(listed: bool, tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        at_best: list[BaseCallback] = [Note(logger), CheckpointCallback(logger, every_steps=1), MetricsCallback(logger)]
        evaluation = StableBaselines3EvalCallback(
            cartpoles(), CallbackList(at_best), eval_freq=16, n_eval_episodes=1, verbose=0
        )
        model = ppo()
        for _ in range(2):
            model.learn(64, callback=[evaluation] if listed else evaluation, reset_num_timesteps=False)
        steps = [step for step, _ in points(logger, "eval/episode_reward_mean")]
        assert steps == [32, 64, 96, 128]
        best = [step for step, _ in points(logger, "best/note")]
        assert best[0] == 32
        assert set(best) <= set(steps)
        saved = [(record.step, record.metadata["checkpoint"]) for record in saved_models(logger, "checkpoint")]
        assert saved[0] == (32, "periodic")
        assert saved[-1][1] == "final"
        assert [step for step, why in saved if why == "periodic"] == best


def test_a_save_that_fails_is_told_and_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_run(tmp_path) as logger:
        (logger.run_dir / "models").write_text("no folder")
        model = ppo()
        model.learn(128, callback=CheckpointCallback(logger, every_steps=32))
        assert model.num_timesteps == 128
        assert saved_models(logger, "checkpoint") == []
    assert sum("save_model 'checkpoint': not logged" in entry.getMessage() for entry in caplog.records) == 1


def test_a_disabled_run_saves_nothing(tmp_path: Path) -> None:
    with open_run(tmp_path, delivery="disabled") as logger:
        ppo().learn(64, callback=logger.get_callbacks("CartPole-v1", checkpoint={"every_steps": 32, "keep_last": 1}))
    assert not (tmp_path / "runs").exists()


# Loading.


def test_a_policy_comes_back_with_its_normalizer(tmp_path: Path) -> None:
    env = VecNormalize(make_vec_env("CartPole-v1", n_envs=2, seed=0))
    model = ppo(env)
    with open_run(tmp_path) as logger:
        model.learn(64)
        saved = logger.save_model(model, name="mine", step=64)
        assert saved is not None
    observation = np.full((2, 4), 0.3, np.float32)
    for given in (saved, saved.path, str(saved.path), saved.path / "model.zip", saved.path.parent):
        loaded = load_checkpoint(given, device="cpu")
        assert type(loaded) is PPO
        assert loaded.get_env() is None
        np.testing.assert_array_equal(
            loaded.get_vec_normalize_env().normalize_obs(observation), env.normalize_obs(observation)
        )
    again = load_checkpoint(saved, make_vec_env("CartPole-v1", n_envs=2, seed=0))
    assert again.get_vec_normalize_env() is again.get_env()
    assert again.get_vec_normalize_env().obs_rms.count == env.obs_rms.count
    own = VecNormalize(make_vec_env("CartPole-v1", n_envs=2), norm_reward=False)
    assert load_checkpoint(saved, own).get_env() is own
    np.testing.assert_array_equal(own.obs_rms.mean, env.obs_rms.mean)
    again.learn(64, reset_num_timesteps=False)
    assert again.num_timesteps == 128
    with pytest.raises(ValueError, match="does not fit the environment"):
        load_checkpoint(saved, "Pendulum-v1")


@pytest.mark.parametrize("kept", [True, False])
def test_the_replay_buffer_comes_back_where_it_was_kept(kept: bool, tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        model = dqn()
        callback = CheckpointCallback(logger, every_steps=1_000, replay_buffer=kept, name="dqn")
        model.learn(120, callback=callback)
        (record,) = saved_models(logger, "dqn")
    folder = logger.run_dir / record.path
    assert (folder / "replay_buffer.pkl").is_file() is kept
    loaded = load_checkpoint(folder, "CartPole-v1")
    assert type(loaded) is DQN
    assert loaded.replay_buffer.size() == (120 if kept else 0)
    for mine, theirs in zip(loaded.policy.parameters(), model.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_normalizer_may_be_left_out(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        model = ppo(VecNormalize(cartpoles()))
        model.learn(64, callback=CheckpointCallback(logger, every_steps=1_000, vec_normalize=False))
        assert load_checkpoint(logger.run_dir / "models" / "checkpoint").get_vec_normalize_env() is None


class Own(SAC):
    """An algorithm of the user's own."""


def test_a_class_that_cannot_be_imported_is_asked_for(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        algorithm = type("Hidden", (PPO,), {})
        model = algorithm("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, **small())
        saved = logger.save_model(model, name="hidden")
        own = logger.save_model(Own("MlpPolicy", "Pendulum-v1", **small()), name="own")
        odd = logger.save_model(torch.nn.Linear(1, 1), name="odd")
        assert saved is not None
    with pytest.raises(ValueError, match=r"Hidden, which cannot be imported here .*algorithm=PPO"):
        load_checkpoint(saved)
    assert type(load_checkpoint(saved, algorithm=PPO)) is PPO
    assert type(load_checkpoint(own, algorithm=Own)) is Own
    with pytest.raises(FileNotFoundError, match=r"there is no model\.zip"):
        load_checkpoint(odd)
    with pytest.raises(FileNotFoundError, match=r"run_dir / record\.path"):
        load_checkpoint("models/hidden/step_0")
    described = json.loads((saved.path / "metadata.json").read_text())
    (saved.path / "metadata.json").write_text(json.dumps({**described, "class": "os.path.join"}))
    with pytest.raises(ValueError, match="is no stable-baselines3 algorithm"):
        load_checkpoint(saved)
    (saved.path / "metadata.json").unlink()
    with pytest.raises(ValueError, match="does not say which class was saved"):
        load_checkpoint(saved)


def test_a_version_is_the_last_one_of_a_folder(tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        model = ppo()
        for steps in (5, 40, 40):
            model.num_timesteps += 1
            logger.save_model(model, name="m", step=steps)
    assert folders(logger, "m") == ["step_40", "step_40.2", "step_5"]
    assert load_checkpoint(logger.run_dir / "models" / "m").num_timesteps == 3


TRAINING = """
import sys
from stable_baselines3 import PPO
from rl_logging import ExperimentLogger
config = {"rl_logging": {"eval": {"every_steps": 64}, "checkpoint": {"every_steps": 64, "keep_last": 1}},
          "mlflow": {"tracking_uri": sys.argv[1], "experiment": "e"}}
import gymnasium as gym
env = gym.make("CartPole-v1")
with ExperimentLogger(config, env, dir=sys.argv[2], quiet=True) as logger:
    PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, device="cpu").learn(
        192, callback=logger.get_callbacks())
print(logger.run_dir)
"""


def test_a_program_with_mlflow_keeps_one_here_and_all_there(tmp_path: Path, mlflow_uri: str) -> None:
    mlflow = pytest.importorskip("mlflow")
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, mlflow_uri, str(tmp_path / "runs")],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run_dir = Path(done.stdout.strip().splitlines()[-1])
    assert [path.name for path in (run_dir / "models" / "checkpoint").iterdir()] == ["step_192.2"]
    client = mlflow.MlflowClient(mlflow_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    history = client.get_metric_history(run.info.run_id, "eval/episode_reward_mean")
    assert [point.step for point in history] == [64, 128, 192]
    there = {file.path for file in client.list_artifacts(run.info.run_id, "models/checkpoint")}
    assert len(there) == 4
    for path in there:
        folder = client.download_artifacts(run.info.run_id, path, str(tmp_path))
        assert type(load_checkpoint(folder)) is PPO
    best = client.download_artifacts(run.info.run_id, "models/best", str(tmp_path))
    means = [point.value for point in history]
    assert load_checkpoint(best).num_timesteps == history[int(np.argmax(means))].step
