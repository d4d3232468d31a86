"""What the documentation tells those who come from the reference systems is what the tests here run."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.docs.blocks import DOCS, blocks
from tests.seeds.snippets import snippets
from tests.seeds.test_ray_sample import top_checkpoint
from tests.support.processes import run_script

PAGE = DOCS / "howto" / "coming_from.rst"
CODE = [block.code for block in blocks("python") if block.path == PAGE]


def test_the_toolchains_integration_is_shown_with_its_one_line_changed() -> None:
    old = "from training.scripts.skrl_mlflow_agent import create_mlflow_logging_wrapper"
    new = "from rl_logging.adapters.skrl_mlflow_agent import create_mlflow_logging_wrapper"
    assert snippets("skrl_mlflow")["integration"].with_line(old, new).code == CODE[0]
    assert old in PAGE.read_text(encoding="utf-8")


def test_the_ray_samples_lines_are_shown_with_one_import_changed() -> None:
    sample = snippets("ray_sample")
    assert sample["run config"].code == CODE[1]
    assert top_checkpoint().code == CODE[2]


def test_a_trial_nests_as_shown(mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    monkeypatch.setenv("RL_LOGGING_DELIVERY", "thread")
    Path("checkpoint_000010").mkdir()
    Path("checkpoint_000010", "state.pkl").write_bytes(b"state")
    client = mlflow.MlflowClient(mlflow_uri)
    parent = client.create_run("0").info.run_id
    exec(CODE[3], {"lr": 1e-3, "parent_run_id": parent, "trial_name": "trial_0"})
    (trial,) = client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert (trial.data.tags["trial_name"], trial.data.params["lr"]) == ("trial_0", "0.001")
    assert client.list_artifacts(trial.info.run_id, "models/checkpoint/step_4000")


def test_the_custom_callback_that_is_shown_logs(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    program = """
from stable_baselines3 import PPO
from rl_logging.testing import RecordingLogger

logger = RecordingLogger()
model = PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, n_epochs=1, device="cpu")
model.learn(16, callback=CustomCallback(logger))
"""
    done = run_script(f"{CODE[4]}\n{textwrap.dedent(program)}\nprint(logger.series('custom'))", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([(step, float(step)) for step in range(1, 17)])
