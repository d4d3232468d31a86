"""The research logger's snippets, run one after the other by one program, with W&B offline as the document has it."""

from __future__ import annotations

import functools
import glob
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rl_logging.settings import load
from tests.seeds.snippets import Snippet, snippets
from tests.support import wandb_file
from tests.support.processes import run_script
from tests.support.wandb_server import API_KEY, WandbServer

SNIPPETS = snippets("research_logger")
OFFLINE_CONFIG = "config = " + repr(yaml.safe_load(SNIPPETS["offline"].code))

IMPORT = ("from rl_research.utils.logger import ExperimentLogger", "from rl_logging import ExperimentLogger")
CALLBACK = (
    # stable-baselines3 has a `logger` of its own there, which cannot be set.
    ("        self.logger = logger", "        self.experiment = logger"),
    ("        self.logger.log_metrics({", "        self.experiment.log_metrics({"),
)
AS_WRITTEN = (
    *("basic metrics", "nested metrics", "custom metrics", "models", "configurations", "media"),
    *("offline", "sync", "configuration"),
)
CHANGED = {"logger": 1, "custom callback": 2, "callbacks": 1}
"""How many lines of a snippet are changed; of ``callbacks`` only how long it trains."""

PROGRAM = f"""
import numpy as np
import torch
import gymnasium as gym
from stable_baselines3 import PPO

torch.set_num_threads(1)
{OFFLINE_CONFIG}
env = gym.make("CartPole-v1")
value, value1, value2 = 3.0, 1, "two"
state_image = np.zeros((8, 8, 3), dtype=np.uint8)
episode_video = np.zeros((4, 3, 16, 16), dtype=np.uint8)
"""
MODEL = 'model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, device="cpu")'


def changed(name: str) -> Snippet:
    snippet = SNIPPETS[name]
    if name == "logger":
        return snippet.with_line(*IMPORT)
    if name == "callbacks":
        return snippet.with_line("    total_timesteps=50000,", "    total_timesteps=128,")
    return functools.reduce(lambda found, change: found.with_line(*change), CALLBACK, snippet)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs all that is Python, in the document's order; returns where."""
    folder = tmp_path_factory.mktemp("research")
    names = [*("basic metrics", "nested metrics", "custom metrics", "models", "configurations", "media")]
    program = [PROGRAM, changed("logger").code, MODEL]
    program += [SNIPPETS[name].code for name in names]
    program += [changed("callbacks").code, changed("custom callback").code]
    program += ["model.learn(64, callback=[*logger.get_callbacks(), CustomCallback(logger)])"]
    done = run_script("\n".join(program), folder, timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert "not logged" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def stored(ran: Path) -> wandb_file.OfflineRun:
    return wandb_file.read(ran / "logs")


def test_every_snippet_is_here() -> None:
    assert sorted(SNIPPETS) == sorted([*AS_WRITTEN, *CHANGED])
    for name, count in CHANGED.items():
        before, after = SNIPPETS[name].code.splitlines(), changed(name).code.splitlines()
        assert sum(old != new for old, new in zip(before, after, strict=True)) == count


def test_metrics_arrive_by_their_names(stored: wandb_file.OfflineRun) -> None:
    expected = {
        **{"reward": 100.0, "loss": 0.5, "training/reward": 100.0, "training/loss": 0.5, "eval/reward": 150.0},
        **{"custom/metric": 3.0, "custom/nested/metric": 3.0},
    }
    for name, value in expected.items():
        assert [point for _, point in stored.series(name)] == [value], name


def test_models_have_their_metadata(stored: wandb_file.OfflineRun) -> None:
    names = [artifact["name"].rpartition("-")[0] for artifact in stored.artifacts if artifact["type"] == "model"]
    assert {"best_model", "checkpoint"} <= set(names)
    (checkpoint,) = [it for it in stored.artifacts if it["name"].startswith("checkpoint-")]
    assert {"step": 1000, "reward": 100.0}.items() <= checkpoint["metadata"].items()


def test_configurations_are_added_to_the_configuration(stored: wandb_file.OfflineRun) -> None:
    assert stored.config["custom_config"] == {"param1": 1, "param2": "two"}
    assert stored.config["env"]["id"] == "CartPole-v1"


def test_media_are_there(stored: wandb_file.OfflineRun) -> None:
    (picture,) = [row["state"] for row in stored.rows if "state" in row]
    (video,) = [row["episode"] for row in stored.rows if "episode" in row]
    assert (picture["_type"], video["_type"]) == ("image-file", "video-file")


def test_trainings_are_logged_by_the_callbacks(stored: wandb_file.OfflineRun) -> None:
    assert {"episode_reward", "policy_loss", "timesteps"} <= {name for row in stored.rows for name in row}
    custom = [value for _, value in stored.series("custom")]
    assert custom == [float(number) for number in range(1, 65)]  # n_calls, once each


def test_the_command_finds_the_run_and_a_server_gets_it(
    ran: Path, stored: wandb_file.OfflineRun, tmp_path: Path
) -> None:
    # In a shell of its own, the glob would be the shell's.
    wandb, sync, pattern = SNIPPETS["sync"].code.split()
    found = glob.glob(pattern, root_dir=ran)
    assert len(found) == 1
    with WandbServer() as server:
        environ = {**os.environ, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": API_KEY, "WANDB_DIR": str(tmp_path)}
        program = str(Path(sys.executable).with_name(wandb))
        subprocess.run([program, sync, *found], cwd=ran, env=environ, check=True, capture_output=True, timeout=180)
        (run,) = server.runs.values()
    assert len(run.rows) == len(stored.rows)
    assert run.summary["training/reward"] == 100.0


def test_the_configuration_is_a_configuration(tmp_path: Path) -> None:
    pytest.importorskip("omegaconf")
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("hydra", lambda key: f"/hydra/{key}", replace=True)
    loaded = load(OmegaConf.create(SNIPPETS["configuration"].code), {})
    (sink,) = loaded.sinks
    told = json.loads(json.dumps(sink.options))
    assert (sink.name, told["mode"], told["tags"]) == ("wandb", "online", ["training", "ppo"])
    assert told["dir"] == "/hydra/runtime.output_dir"
