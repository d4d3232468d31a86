"""The Ray Tune sample's snippets, as far as what they need is there."""

from __future__ import annotations

import shlex
from pathlib import Path

from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from rl_logging import ExperimentLogger
from rl_logging_mlflow import rl_logging_look_command
from tests.seeds.snippets import snippets

SNIPPETS = snippets("ray_sample")
NOT_THERE_YET = {
    "run config": "a callback for Ray Tune: part of the work on sweeps",
    "top checkpoint": "list_experiments and get_top_run: part of the work on sweeps",
}
SHOWN = {
    "local runs": "runs, params, metrics, checkpoints and the parent's tag, in a local store",
    "local ui": "the command that shows them, for our store",
}


def test_every_snippet_is_run_or_named_as_missing() -> None:
    assert sorted(SNIPPETS) == sorted([*NOT_THERE_YET, *SHOWN])


def test_a_sweep_of_ones_own_nests_below_one_parent(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("pbt_ppo")
    parent = client.create_run(experiment, run_name="sweep")
    checkpoint = tmp_path / "checkpoint_000010"
    checkpoint.mkdir()
    (checkpoint / "algorithm_state.pkl").write_bytes(b"state")
    for trial, rate in enumerate((1e-3, 1e-4)):
        config = {"lr": rate, "clip_param": 0.2, "rl_logging": {"name": f"trial_{trial}", "quiet": True}}
        mlflow = {"tracking_uri": uri, "parent_run_id": parent.info.run_id, "tags": {"trial_name": f"trial_{trial}"}}
        with ExperimentLogger(config, sinks={"mlflow": mlflow}, delivery="thread") as logger:
            logger.log_metrics({"episode_reward_mean": 10.0 * trial, "training_iteration": 10}, step=4000)
            logger.save_model(checkpoint, "checkpoint", step=4000)
    trials = client.search_runs([experiment], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent.info.run_id}'")
    assert sorted(run.data.tags["trial_name"] for run in trials) == ["trial_0", "trial_1"]
    tree = SNIPPETS["local runs"].code
    for run in trials:
        assert {"lr", "clip_param"} <= set(run.data.params)
        assert set(run.data.metrics) == {"episode_reward_mean", "training_iteration"}
        kept = client.download_artifacts(run.info.run_id, "models/checkpoint/step_4000")
        assert [path.read_bytes() for path in Path(kept).rglob("algorithm_state.pkl")] == [b"state"]
        assert all(name in tree for name in ("lr", "clip_param", "episode_reward_mean", MLFLOW_PARENT_RUN_ID))
    best = client.search_runs([experiment], "metrics.episode_reward_mean > 5")
    assert [run.info.run_name for run in best] == ["trial_1"]
    # The document's command, with the store, which is not the folder `mlruns` any more.
    shown = rl_logging_look_command({"tracking_uri": uri}, {}) or ""
    assert shlex.split(shown)[:2] == SNIPPETS["local ui"].code.split()
