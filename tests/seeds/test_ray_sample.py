"""The Ray Tune sample's snippets, in a sweep of population-based training with few and short trials."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from rl_logging_mlflow import rl_logging_look_command
from tests.seeds.snippets import Snippet, snippets
from tests.support.processes import run_script

SNIPPETS = snippets("ray_sample")
RUN = {"run config", "top checkpoint"}
SHOWN = {
    "local runs": "runs, params, metrics, checkpoints and tags below one parent, in a local store",
    "local ui": "the command that shows them, for our store",
}
TIMEOUT_S = 600

# The better trial is at its best one iteration before its end; the other goes on from it, by another learning rate.
SWEEP = """
import json, os, tempfile
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from pathlib import Path
import mlflow, ray
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from ray import air, tune
from ray.tune.schedulers import PopulationBasedTraining
from rl_logging.adapters.ray_tune import MLflowLoggerCallback

def train(config):
    state = {"i": 0, "score": 0.0}
    before = tune.get_checkpoint()
    if before is not None:
        with before.as_directory() as folder:
            state = json.loads(Path(folder, "state.json").read_text())
    while True:
        state["i"] += 1
        state["score"] += config["lr"] if state["i"] < 4 else -1.0
        result = {"episode_reward_max": state["score"], "timesteps_total": state["i"] * 100}
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state.json").write_text(json.dumps(state))
            tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))

stopping_criteria = {"training_iteration": 4}
scheduler = PopulationBasedTraining(
    time_attr="training_iteration", perturbation_interval=2, quantile_fraction=0.5, resample_probability=0.0,
    hyperparam_mutations={"lr": tune.uniform(0.01, 10.0)}, synch=True,
)
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("pbt_ppo")
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
with mlflow.start_run(run_name="sweep") as current_run:
@run config@
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={"lr": tune.grid_search([0.1, 1.0]), "gamma": 0.9},
        tune_config=tune.TuneConfig(metric="episode_reward_max", mode="max", scheduler=scheduler),
        run_config=run_config,
    )
    assert not tuner.fit().errors
ray.shutdown()
@top checkpoint@
"""


def top_checkpoint() -> Snippet:
    """Returns the document's last block, with its import changed."""
    old = "from get_mlflow_artifacts import get_top_run, list_experiments"
    return SNIPPETS["top checkpoint"].with_line(old, "from rl_logging.retrieval import get_top_run, list_experiments")


def program() -> str:
    """Returns a sweep with the document's blocks in it."""
    indented = "".join(f"    {line}" for line in SNIPPETS["run config"].code.splitlines(keepends=True))
    return SWEEP.replace("@run config@", indented).replace("@top checkpoint@", top_checkpoint().code)


def test_every_snippet_is_run_or_shown() -> None:
    assert sorted(SNIPPETS) == sorted([*RUN, *SHOWN])


def test_the_documents_sweep_and_its_best_checkpoint(tmp_path: Path, mlflow_uri: str) -> None:
    pytest.importorskip("ray")
    done = run_script(program(), tmp_path, timeout_s=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]

    client = MlflowClient(mlflow_uri)
    experiment = client.get_experiment_by_name("pbt_ppo")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.info.run_name == "sweep"]
    trials = {run.data.params["lr"]: run for run in runs if run is not parent}
    assert sorted(trials) == ["0.1", "1.0"]
    assert parent.info.status == "FINISHED"
    tree = SNIPPETS["local runs"].code
    for run in trials.values():
        assert run.info.status == "FINISHED"
        assert run.data.tags[MLFLOW_PARENT_RUN_ID] == parent.info.run_id
        assert "trial_name" in run.data.tags
        assert {"episode_reward_max", "timesteps_total", "training_iteration", "time_total_s"} <= set(run.data.metrics)
    assert all(name in tree for name in ("lr", "episode_reward_max", "trial_name", MLFLOW_PARENT_RUN_ID))

    # One went on from the other at 200, by a learning rate of its own.
    better, worse = trials["1.0"], trials["0.1"]
    rate = float(worse.data.tags["config/lr"])
    assert rate in (0.8, 1.2)
    rewards = dict(history(client, worse.info.run_id))
    assert rewards[100] == 0.1
    assert rewards[300] == pytest.approx(2.0 + rate)
    assert history(client, better.info.run_id)[:3] == [(100, 1.0), (200, 2.0), (300, 3.0)]
    for run, steps in ((better, {100, 200, 300, 400}), (worse, {300, 400})):
        kept = {file.path.rpartition("/")[2] for file in client.list_artifacts(run.info.run_id, "models/checkpoint")}
        assert kept >= {f"step_{step}" for step in steps}
    top = better if rate < 1.0 else worse
    (state,) = tmp_path.glob("model_checkpoints/*/checkpoint/step_*/**/state.json")
    assert top.info.run_name in str(state)
    assert json.loads(state.read_text()) == {"i": 3, "score": pytest.approx(2.0 + max(rate, 1.0))}

    # The document's command, with the store, which is not the folder `mlruns` any more.
    shown = rl_logging_look_command({"tracking_uri": mlflow_uri}, {}) or ""
    assert shlex.split(shown)[:2] == SNIPPETS["local ui"].code.split()


def history(client: MlflowClient, run_id: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run_id, "episode_reward_max")]
