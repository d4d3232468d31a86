"""``names.json``: looked up in the run directory and in the store, after real trainings."""

from __future__ import annotations

import gc
import json
import signal
import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from mlflow import MlflowClient
from stable_baselines3 import PPO

from rl_logging import ExperimentLogger
from rl_logging.extraction import NameTable
from rl_logging.run import names as kept_names
from rl_logging.testing import RecordingLogger
from rl_logging.testing.files import FileStore
from tests.support import wandb_file
from tests.support.processes import run_script
from tests.test_cli import cli


def names_of(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "names.json").read_text(encoding="utf-8"))
    return found


def test_a_training_leaves_its_names_in_the_run_directory_and_in_the_store(tmp_path: Path) -> None:
    sinks = {"file": {"factory": "rl_logging.testing.files:make", "path": str(tmp_path / "out.jsonl")}}
    with ExperimentLogger(sinks=sinks, delivery="thread", dir=tmp_path / "runs", quiet=True, id="mine") as logger:
        model = PPO("MlpPolicy", gym.make("CartPole-v1"), n_steps=32, batch_size=32, n_epochs=1, seed=1, device="cpu")
        model.learn(64, callback=logger.get_callbacks())
        logger.log_metrics({"my/own": 1.0})
    names = names_of(logger.run_dir)
    assert names["entropy"] == {"native": "train/entropy_loss", "canonical": "entropy", "factor": -1.0}
    assert names["policy_loss"]["native"] == "train/policy_gradient_loss"
    assert "my/own" not in names
    store = FileStore(tmp_path / "out.jsonl")
    logged = {name for name, _, _ in store.points()}
    assert set(names) == logged - {"my/own"}
    [row] = [row for row in store.rows("mine") if row["kind"] == "artifact"]
    assert row["body"]["name"] == "names.json"
    copied = [path for path in (tmp_path / "out.jsonl.files").rglob("*names.json*") if path.is_file()]
    assert [json.loads(path.read_text(encoding="utf-8")) for path in copied] == [names]


KILLED = """
import os, queue, signal
import gymnasium as gym
from stable_baselines3 import PPO
from rl_logging import ExperimentLogger
from rl_logging.run import names

names.FIRST_PAUSE_S = 0.01
config = {"mlflow": {"tracking_uri": "sqlite:///mlflow.db"}, "wandb": {"mode": "offline", "dir": "."}}
logger = ExperimentLogger(config, id="job", delivery="offline", quiet=True)
run, kept = logger._last_run, queue.SimpleQueue()
append = run.append

def noting(kind, step, body, time_s=None):
    seq = append(kind, step, body, time_s)
    if kind == "artifact":
        kept.put(body["path"])
    return seq

run.append = noting
model = PPO("MlpPolicy", gym.make("CartPole-v1"), n_steps=32, batch_size=32, n_epochs=1, seed=1, device="cpu")
model.learn(96, callback=logger.get_callbacks())
while "policy_loss" not in (logger.run_dir / kept.get(timeout=180)).read_text():
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_training_that_is_killed_has_its_names_in_the_stores(tmp_path: Path, mlflow_uri: str) -> None:
    done = run_script(KILLED, tmp_path, timeout_s=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (run_dir,) = (tmp_path / "rl_runs").glob("*-job")
    synced = cli("sync", run_dir)
    assert synced.exit_code == 0, synced.output
    names = names_of(run_dir)
    assert names["policy_loss"]["native"] == "train/policy_gradient_loss"
    client = MlflowClient(mlflow_uri)
    (run,) = client.search_runs(["0"])
    assert json.loads(Path(client.download_artifacts(run.info.run_id, "names.json")).read_text()) == names
    artifacts = wandb_file.read(wandb_file.offline_directories(tmp_path)).artifacts
    newest = [Path(artifact["files"]["names.json"]) for artifact in artifacts if artifact["name"] == "names.json-job"]
    assert names_of(newest[-1].parent) == names


def test_it_is_logged_once_and_holds_all_adapters(tmp_path: Path) -> None:
    logger = RecordingLogger(dir=tmp_path)
    logger.pipeline(NameTable({"a": "b"})).log({"a": 1.0}, 1)
    logger.pipeline(NameTable({"c": "d"})).log({"c": 1.0}, 1)
    logger.finish()
    logger.finish()
    [artifact] = logger.artifacts
    assert names_of(logger.file_of(artifact).parent) == names_of(tmp_path)
    assert names_of(tmp_path) == {
        "b": {"native": "a", "canonical": "b", "factor": 1.0},
        "d": {"native": "c", "canonical": "d", "factor": 1.0},
    }


def test_a_run_that_is_gone_on_with_keeps_its_earlier_names(tmp_path: Path) -> None:
    for native in ("a", "b"):
        logger = RecordingLogger(dir=tmp_path)
        logger.pipeline(NameTable({})).log({native: 1.0}, 1)
        logger.finish()
    assert set(names_of(tmp_path)) == {"a", "b"}


def test_without_an_adapters_metrics_there_is_none(tmp_path: Path) -> None:
    logger = RecordingLogger({"rl_logging": {"metric_filter": ["x"]}}, dir=tmp_path)
    logger.log_metrics({"x": 1.0})
    logger.pipeline(NameTable({})).log({"filtered": 1.0}, 1)
    logger.finish()
    assert logger.artifacts == []
    assert not (tmp_path / "names.json").exists()


def test_names_are_kept_as_they_come_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come together together, and each further time later; at the end there is nothing to add."""
    monkeypatch.setattr(kept_names, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(kept_names, "MOST_PAUSE_S", 0.0)
    logger, kept = RecordingLogger(dir=tmp_path), threading.Semaphore(0)
    keep = logger._names._keep
    logger._names._keep = lambda names: keep(names) and kept.release() is None
    pipeline = logger.pipeline(NameTable({}))
    for number, name in enumerate(("a", "b")):
        with logger._names._keeping:  # however long this thread takes over it
            pipeline.log({name: 1.0, "always": 1.0}, number)
        assert kept.acquire(timeout=180)
    assert [set(names_of(logger.file_of(it).parent)) for it in logger.artifacts] == [
        {"a", "always"},
        {"a", "always", "b"},
    ]
    logger.finish()
    assert len(logger.artifacts) == 2


def test_a_logger_is_not_held_by_the_names_it_waits_for() -> None:
    before = set(threading.enumerate())
    logger = RecordingLogger()
    logger.pipeline(NameTable({}))
    (thread,) = set(threading.enumerate()) - before
    del logger
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
