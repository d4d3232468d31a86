from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle, deleting, resuming
from rl_logging.run import models
from rl_logging.run.models import ModelError


def saved(model: object, tmp_path: Path, **metadata: Any) -> tuple[Path, dict[str, Any]]:
    """Saves `model` and returns the folder and what ``metadata.json`` says."""
    folder = tmp_path / "models" / "best" / "step_7"
    models.save(model, folder, name="best", step=7, metadata=metadata, time=12.5)
    assert [entry.name for entry in folder.parent.iterdir()] == ["step_7"], "something is left lying about"
    described = json.loads((folder / "metadata.json").read_text())
    assert set(described) == {"name", "step", "time", "kind", "class", "metadata"}
    return folder, described


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_module_is_loaded_again_with_weights_only(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    folder, described = saved(module, tmp_path, reward=np.float32(1.5), path=Path("a"), tags={"x"}, odd=object)
    assert described == {
        "name": "best",
        "step": 7,
        "time": 12.5,
        "kind": "torch",
        "class": "torch.nn.modules.container.Sequential",
        "metadata": {"reward": 1.5, "path": "a", "tags": ["x"], "odd": "object"},
    }
    assert names(folder) == ["metadata.json", "model.pt"]
    other = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    other.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


def test_a_mapping_of_parts(tmp_path: Path) -> None:
    policy, value = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(policy.parameters())
    policy(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    parts = {"policy": policy, "value": value.state_dict(), "optimizer": optimizer, "step": 3, "mean": np.arange(3.0)}
    folder, described = saved(parts, tmp_path)
    assert described["kind"] == "torch"
    loaded = torch.load(folder / "model.pt", weights_only=True)
    assert torch.equal(loaded["policy"]["weight"], policy.weight)
    assert torch.equal(loaded["value"]["bias"], value.bias)
    assert loaded["step"] == 3
    assert loaded["mean"].tolist() == [0, 1, 2]
    again = torch.optim.Adam(torch.nn.Linear(2, 2).parameters())
    again.load_state_dict(loaded["optimizer"])


def test_a_mapping_of_something_else_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"\['a'\]\['b'\]\[1\] is a object: it may be a Module"):
        saved({"a": {"b": [1, object()]}}, tmp_path)
    assert list((tmp_path / "models" / "best").iterdir()) == []


def test_an_sb3_model_and_its_normalizer(tmp_path: Path) -> None:
    env = VecNormalize(make_vec_env("CartPole-v1", n_envs=2, seed=0))
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu")
    model.learn(32)
    folder, described = saved(model, tmp_path)
    assert names(folder) == ["metadata.json", "model.zip", "vecnormalize.pkl"]
    assert described["kind"] == "stable_baselines3"
    assert described["class"] == "stable_baselines3.ppo.ppo.PPO"
    loaded = PPO.load(folder / "model.zip", device="cpu")
    normalizer = VecNormalize.load(str(folder / "vecnormalize.pkl"), make_vec_env("CartPole-v1", n_envs=2))
    np.testing.assert_array_equal(normalizer.obs_rms.mean, env.obs_rms.mean)
    observation = np.full((1, 4), 0.1, np.float32)
    assert torch.equal(
        model.policy.get_distribution(torch.as_tensor(observation)).distribution.logits,
        loaded.policy.get_distribution(torch.as_tensor(observation)).distribution.logits,
    )


class SaveMidway(BaseCallback):
    """Saves its model while it learns, being itself attached, with something that no pickle takes."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.unpicklable = (entry for entry in ())

    def _on_step(self) -> bool:
        if self.n_calls == 20:
            models.save(self.model, self.folder, name="m", step=self.num_timesteps, metadata={}, time=0.0)
        return True


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_an_sb3_model_that_is_learning(algorithm: Any, tmp_path: Path) -> None:
    model = algorithm("MlpPolicy", gym.make("CartPole-v1"), seed=0, device="cpu")
    model.learn(40, callback=[SaveMidway(tmp_path / "m")])
    assert names(tmp_path / "m") == ["metadata.json", "model.zip"]
    loaded = algorithm.load(tmp_path / "m" / "model.zip", device="cpu")
    assert loaded.num_timesteps == 20
    assert model.num_timesteps >= 40, "saving ended the training"


def _skrl_agent() -> Any:
    from skrl.agents.torch import ppo
    from skrl.models.torch import DeterministicMixin, Model

    class Value(DeterministicMixin, Model):  # type: ignore[misc]
        def __init__(self, space: gym.Space[Any]) -> None:
            Model.__init__(self, observation_space=space, action_space=gym.spaces.Discrete(2), device="cpu")
            DeterministicMixin.__init__(self)
            self.net = torch.nn.Linear(4, 1)

        def compute(self, inputs: dict[str, Any], role: str = "") -> Any:
            return self.net(inputs["observations"]), {}

    space = gym.spaces.Box(-1, 1, (4,))
    value = Value(space)
    return ppo.PPO(
        models={"policy": value, "value": value},
        observation_space=space,
        action_space=gym.spaces.Discrete(2),
        device="cpu",
    )


@pytest.mark.parametrize("in_runner", [False, True])
def test_a_skrl_agent(in_runner: bool, tmp_path: Path) -> None:
    agent = _skrl_agent()
    model = agent
    if in_runner:
        from skrl.utils.runner.torch import Runner

        model = Runner.__new__(Runner)
        model._agent = agent
    folder, described = saved(model, tmp_path)
    assert names(folder) == ["agent.pt", "metadata.json"]
    assert described["kind"] == "skrl"
    other = _skrl_agent()
    other.load(str(folder / "agent.pt"))
    for a, b in zip(agent.models["policy"].parameters(), other.models["policy"].parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "policy.onnx").write_bytes(b"abc")
    folder, described = saved(str(tmp_path / "policy.onnx"), tmp_path)
    assert (folder / "policy.onnx").read_bytes() == b"abc"
    assert described["kind"] == "file"


def test_a_file_that_is_called_like_ours(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text("theirs")
    folder, described = saved(tmp_path / "metadata.json", tmp_path)
    assert names(folder) == ["metadata.json", "model-metadata.json"]
    assert (folder / "model-metadata.json").read_text() == "theirs"
    assert described["name"] == "best"


def test_a_folder_without_what_leads_out_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tmp_path / "checkpoint"
    (source / "step_1").mkdir(parents=True)
    (source / "step_1" / "weights.bin").write_bytes(b"abc")
    (source / "metadata.json").write_text("theirs")
    (source / "best.bin").symlink_to("step_1/weights.bin")
    (source / "latest").symlink_to("step_1")
    (tmp_path / "secret").write_text("secret")
    (source / "passwd").symlink_to(tmp_path / "secret")
    (source / "up").symlink_to("..")
    (source / "dangling").symlink_to("nowhere")
    os.mkfifo(source / "fifo")
    with caplog.at_level(logging.WARNING):
        folder, described = saved(source, tmp_path)
    assert described["kind"] == "folder"
    assert names(folder) == [
        "checkpoint/best.bin",
        "checkpoint/metadata.json",
        "checkpoint/step_1/weights.bin",
        "metadata.json",
    ]
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert (folder / "checkpoint" / "best.bin").read_bytes() == b"abc"
    assert all(name in caplog.text for name in ("latest", "passwd", "up", "dangling", "fifo"))


def test_a_folder_that_holds_the_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds the run directory"):
        saved(tmp_path, tmp_path)


class Own:
    def save(self, path: str) -> None:
        Path(path).mkdir()
        Path(path, "weights").write_text("w")


class Silent:
    def save(self, path: str) -> None:
        pass


class Failing:
    def save(self, path: str, optimizer: object) -> None:
        pass


def test_an_object_that_saves_itself(tmp_path: Path) -> None:
    folder, described = saved(Own(), tmp_path)
    assert described["kind"] == "object"
    assert names(folder) == ["metadata.json", "model/weights"]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Silent(), "wrote nothing"),
        (Failing(), "save.path. failed: TypeError.*give the path"),
        (object(), "a object cannot be saved as a model: it may be a torch Module"),
        (Own, "type cannot be saved"),
        (None, "NoneType"),
        ("nowhere/model.pt", "nowhere/model.pt: there is no such file"),
        ({}, "empty"),
    ],
)
def test_what_cannot_be_saved(model: object, says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=says):
        saved(model, tmp_path)
    assert not list(tmp_path.glob("models/best/*"))


def test_a_folder_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(FileExistsError):
        models.save(torch.nn.Linear(1, 1), tmp_path / "m", name="m", step=None, metadata={}, time=0.0)
    assert list((tmp_path / "m").iterdir()) == []


def test_no_framework_is_imported(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from rl_logging.run import models
Path("a.bin").write_bytes(b"x")
models.save("a.bin", Path("m"), name="m", step=None, metadata={}, time=0.0)
try:
    models.save({"a": 1}, Path("n"), name="m", step=None, metadata={}, time=0.0)
except models.ModelError as error:
    assert "torch, which is not imported" in str(error)
print({"torch", "stable_baselines3", "skrl", "gymnasium"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=True)
    assert done.stdout.strip() == "set()"


def test_one_whose_deletion_was_cut_short_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_short(doomed: Path) -> None:
        (doomed / "model.pt").unlink()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(deleting.shutil, "rmtree", cut_short)
    with ExperimentLogger(sinks=[], dir=tmp_path, delivery="offline", quiet=True) as logger:
        kept = [logger.save_model(torch.nn.Linear(1, 1), step=step) for step in (1, 2)]
        assert kept[1] is not None
        assert not logger.discard_model(kept[1])
        assert [model.step for model in resuming.saved_models(Bundle(logger.run_dir))] == [1]
