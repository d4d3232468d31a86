"""What the callback makes of what Ray Tune tells it; whole sweeps are in tests/sweeps."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_logging import SettingsError
from rl_logging.adapters.ray_tune import ExperimentLoggerCallback, MLflowLoggerCallback
from rl_logging.bundle import Bundle, find
from rl_logging.records import Artifact, Config, End, Metrics, Model
from rl_logging.run.journaled import JournaledRun
from tests.support.ray_tune import TUNES, Checkpoint, Saved, Trial, make, records

NEW = {
    "env_runners": {"episode_return_mean": 20.5, "episode_return_max": 31.0, "episode_len_mean": 20.5},
    "num_env_steps_sampled_lifetime": 4000,
    "learners": {"default_policy": {"policy_loss": 0.25, "vf_loss": np.float32(0.5)}},
}
OLD = {
    "episode_reward_mean": 20.5,
    "episode_reward_max": 31.0,
    "sampler_results": {"episode_reward_mean": 20.5, "episode_reward_max": 31.0, "hist_stats": {"episode_reward": [1]}},
    "info": {"learner": {"default_policy": {"learner_stats": {"policy_loss": 0.25, "vf_loss": 0.5}}}},
    "timesteps_total": 4000,
    "agent_timesteps_total": 8000,
}


def one_result(tmp_path: Path, result: dict[str, Any], **keywords: Any) -> tuple[int | None, dict[str, float]]:
    callback, trial = make(tmp_path, **keywords), Trial("a", {"lr": 1})
    callback.log_trial_start(trial)
    callback.log_trial_result(1, trial, result)
    callback.log_trial_end(trial)
    callback.on_experiment_end([trial])
    (metrics,) = records(tmp_path, "train_a", Metrics)
    return metrics.step, metrics.values


@pytest.mark.parametrize("result", [NEW, OLD], ids=["new", "old"])
def test_results_of_either_rllib_are_called_the_same(tmp_path: Path, result: dict[str, Any]) -> None:
    step, values = one_result(tmp_path, {**TUNES, **result})
    assert step == 4000
    expected = {
        "episode_reward_mean": 20.5,
        "episode_reward_max": 31.0,
        "policy_loss": 0.25,
        "value_loss": 0.5,
        "timesteps": 4000.0,
        "iterations": 2.0,
        "training_iteration": 2.0,
        "time_total_s": 12.5,
        "time_elapsed": 12.5,
    }
    own = (
        {"num_env_steps_sampled_lifetime": 4000.0, "episode_length_mean": 20.5}
        if result is NEW
        else {"timesteps_total": 4000.0, "agent_timesteps_total": 8000.0}
    )
    assert values == expected | own


@pytest.mark.parametrize("names", ["native", "both"])
def test_names_that_people_rank_by_are_always_there(tmp_path: Path, names: str) -> None:
    agents = {"num_agent_steps_sampled_lifetime": {"one": 3000, "two": 1000}}
    result = {**TUNES, **NEW, "env_runners": {**NEW["env_runners"], **agents}}  # type: ignore[dict-item]
    _, values = one_result(tmp_path, result, config={"rl_logging": {"names": names}})
    assert values["env_runners/episode_return_mean"] == values["episode_reward_mean"] == 20.5
    assert values["episode_reward_max"] == 31.0
    assert values["agent_timesteps_total"] == 4000.0
    assert values["time_total_s"] == 12.5


def test_the_step_is_the_iteration_where_no_steps_are_told(tmp_path: Path) -> None:
    step, values = one_result(tmp_path, {**TUNES, "timesteps_total": None, "loss": 1.0, "note": "text", "flag": True})
    assert step == 2
    assert set(values) == {"loss", "training_iteration", "time_total_s", "iterations", "time_elapsed"}


def test_a_sweep_is_a_run_and_each_trial_one_below_it(tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    (folder / "checkpoint_000000").mkdir(parents=True)
    (folder / "checkpoint_000000" / "weights").write_text("w")
    (folder / "progress.csv").write_text("a\n1\n")
    callback = make(tmp_path, {"algorithm": "PPO"}, tags=["t"])
    trials = [Trial("a", {"lr": 1, "__trial_info__": "Tune's"}, folder), Trial("b", {"lr": 2}), Trial("c", {"lr": 3})]
    for trial in trials:
        callback.log_trial_start(trial)
    trials[0].latest_checkpoint_result = Saved(
        Checkpoint(str(folder / "checkpoint_000000")), {**TUNES, **NEW, "training_iteration": 1}
    )
    callback.log_trial_save(trials[0])
    callback.log_trial_end(trials[0])
    callback.log_trial_end(trials[1], failed=True)
    callback.on_step_end(3, trials)
    trials[2].status = "TERMINATED"  # which it is called where Ctrl-C ends the sweep
    callback.on_experiment_end(trials)
    manifests = {(it := Bundle(path).manifest).name: it for path in find(tmp_path / "runs")}
    sweep = manifests["pbt_ppo"]
    assert sweep.id == callback.run_id
    assert sweep.group == f"pbt_ppo-{sweep.id}"
    for trial in trials:
        assert manifests[str(trial)].parent == sweep.id
        assert manifests[str(trial)].group == sweep.group
        assert manifests[str(trial)].tags == ("t", f"trial_name:{trial}")
    ends = {name: records(tmp_path, name, End)[-1].status for name in manifests}
    assert ends == {"pbt_ppo": "killed", "train_a": "finished", "train_b": "failed", "train_c": "killed"}
    assert [record.values for record in records(tmp_path, "train_a", Config)] == [{"lr": 1}]
    (model,) = records(tmp_path, "train_a", Model)
    assert (model.name, model.step) == ("checkpoint", 4000)
    assert model.metadata["metrics"]["episode_reward_mean"] == 20.5
    run_dir = next((tmp_path / "runs").glob("train_a-*"))
    assert (run_dir / model.path / "checkpoint_000000" / "weights").read_text() == "w"
    (kept,) = [record for record in records(tmp_path, "train_a", Artifact) if record.type == "trial"]
    assert [path.name for path in (run_dir / kept.path).rglob("*") if path.is_file()] == ["progress.csv"]


def test_a_configuration_that_a_scheduler_changes_is_kept(tmp_path: Path) -> None:
    callback, trial = make(tmp_path), Trial("a", {"lr": 1, "gamma": 0.9})
    callback.log_trial_start(trial)
    callback.log_trial_result(1, trial, {**TUNES, "loss": 1.0})
    trial.config = {"lr": 1, "gamma": 0.9}
    callback.log_trial_start(trial)
    trial.config = {"lr": 1.2, "gamma": 0.9}
    callback.log_trial_start(trial)
    callback.log_trial_end(trial)
    callback.on_experiment_end([trial])
    assert [record.values["lr"] for record in records(tmp_path, "train_a", Config)] == [1, 1.2]


def test_a_restored_sweep_goes_on_in_the_same_runs(tmp_path: Path) -> None:
    callback, trial = make(tmp_path), Trial("a", {"lr": 1})
    callback.log_trial_start(trial)
    callback.log_trial_result(1, trial, {"loss": 1.0, "timesteps_total": 100})
    state = callback.get_state()
    copy = pickle.loads(pickle.dumps(callback))
    callback.on_experiment_end([trial])
    other = ExperimentLoggerCallback(dir=tmp_path / "runs", delivery="offline", sinks=[], quiet=True)
    other.set_state(state)
    for step, restored in ((200, copy), (300, other)):
        restored.setup()
        restored.log_trial_start(trial)
        restored.log_trial_result(1, trial, {"loss": 0.5, "timesteps_total": step})
        restored.on_experiment_end([trial])
    assert len(list(find(tmp_path / "runs"))) == 2
    assert [record.step for record in records(tmp_path, "train_a", Metrics)] == [100, 200, 300]
    again = make(tmp_path)
    callback.setup()
    assert len({again.run_id, callback.run_id, copy.run_id}) == 3, "the same callback in another sweep is another sweep"


def test_trials_that_are_stopped_with_the_sweep_are_finished(tmp_path: Path) -> None:
    callback, trial = make(tmp_path), Trial("a", {"lr": 1})
    callback.log_trial_start(trial)
    trial.status = "TERMINATED"  # as at a limit of time, of which no trial is told
    callback.on_step_end(1, [trial])
    callback.on_experiment_end([trial])
    assert [records(tmp_path, name, End)[-1].status for name in ("train_a", "pbt_ppo")] == ["finished", "finished"]


def test_what_trials_owe_is_told_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    callback = make(tmp_path, sinks={"mlflow": {"tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"}})
    trials = [Trial("a", {"lr": 1}), Trial("b", {"lr": 2})]
    for trial in trials:
        callback.log_trial_start(trial)
        callback.log_trial_end(trial)
    callback.on_experiment_end(trials)
    (told,) = [record.getMessage() for record in caplog.records if "trials' runs" in record.getMessage()]
    assert told.startswith("2 of 2 trials' runs still owe records")
    assert f"rl-logging sync {tmp_path / 'runs'}" in told


def test_nothing_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise OSError("the disk is gone")

    callback, trial = make(tmp_path), Trial("a", {"lr": 1})
    monkeypatch.setattr(JournaledRun, "__init__", fail)
    for _ in range(2):
        callback.log_trial_start(trial)
        callback.log_trial_result(1, trial, {"loss": 1.0})
        callback.log_trial_save(trial)
    callback.log_trial_end(trial, failed=True)
    callback.on_experiment_end([trial])
    callback.set_state({})
    told = [record.getMessage() for record in caplog.records]
    assert told.count("log_trial_result: not logged: the disk is gone") == 1
    assert any("set_state" in message for message in told)


def test_wrong_settings_are_told_before_the_sweep(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="delivry"):
        ExperimentLoggerCallback({"rl_logging": {"delivry": "thread"}})


def test_the_arguments_of_rays_own_callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(variable, "before")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    callback = MLflowLoggerCallback(
        tracking_uri=uri,
        registry_uri=uri,
        experiment_name="pbt_ppo",
        tags={"mlflow.parentRunId": "0123", "user": "me"},
        tracking_token="secret",
        save_artifact=False,
    )
    assert b"secret" not in pickle.dumps(callback)
    monkeypatch.setenv("RL_LOGGING_DELIVERY", "offline")
    trial = Trial("a", {"lr": 1})
    trial.latest_checkpoint_result = Saved(Checkpoint(str(tmp_path)), {})
    callback._keywords["dir"] = str(tmp_path / "runs")
    callback.setup()

    assert (os.environ["MLFLOW_TRACKING_TOKEN"], os.environ["MLFLOW_REGISTRY_URI"]) == ("secret", uri)
    callback.log_trial_start(trial)
    callback.log_trial_save(trial)
    callback.log_trial_end(trial)
    callback.on_experiment_end([trial])
    assert not records(tmp_path, "train_a", Model)
    manifests = {(it := Bundle(path).manifest).name: it for path in find(tmp_path / "runs")}
    assert manifests["pbt_ppo"].sinks[0].options["run_id"] == "0123"
    child = manifests["train_a"].sinks[0].options
    assert "run_id" not in child
    assert (child["experiment"], child["tags"]) == ("pbt_ppo", {"user": "me"})
