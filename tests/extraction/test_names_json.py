"""``names.json``: looked up in the run directory and in the store, after real trainings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3 import PPO

from rl_logging import ExperimentLogger
from rl_logging.extraction import NameTable
from rl_logging.testing import RecordingLogger
from rl_logging.testing.files import FileStore


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


def test_it_is_logged_once_and_holds_all_adapters(tmp_path: Path) -> None:
    logger = RecordingLogger(dir=tmp_path)
    logger.pipeline(NameTable({"a": "b"})).log({"a": 1.0}, 1)
    logger.pipeline(NameTable({"c": "d"})).log({"c": 1.0}, 1)
    logger.finish()
    logger.finish()
    [artifact] = logger.artifacts
    assert logger.file_of(artifact) == tmp_path / "names.json"
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
