"""Whole sweeps under Ray Tune, on real stores. Ray runs in programs of its own, and ends with them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from rl_logging.bundle import Bundle, find
from rl_logging.bundle.owing import owing
from tests.support.mlflow_server import MlflowServer, running_mlflow_server
from tests.support.processes import run_script, start_script
from tests.support.wandb_file import offline_directories, read

NESTED = "mlflow.parentRunId"
TIMEOUT_S = 400

COMMON = """
import json, os, signal, sys, tempfile
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from pathlib import Path
import ray
from ray import tune
from rl_logging.adapters.ray_tune import ExperimentLoggerCallback

uri, here = sys.argv[1], Path.cwd()

def start(cpus):
    ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

def report(config, i, **more):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "state.json").write_text(json.dumps({"i": i}))
        result = {"env_runners": {"episode_return_mean": i * config["lr"]}, "timesteps_total": i * 100, **more}
        tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))

def begun():
    before = tune.get_checkpoint()
    if before is None:
        return 0
    with before.as_directory() as folder:
        return json.loads(Path(folder, "state.json").read_text())["i"]

def callback(project, **sinks):
    return ExperimentLoggerCallback(project=project, sinks={"mlflow": {"tracking_uri": uri}, **sinks})
"""

EIGHT = (
    COMMON
    + """
def train(config):
    for i in range(begun() + 1, 10):
        if config["which"] == 3 and i == 4:
            raise ValueError("on purpose")
        if config["which"] == 5 and i == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        report(config, i)

start(8)
tuner = tune.Tuner(
    tune.with_resources(train, {"cpu": 1}),
    param_space={"lr": 1.0, "which": tune.grid_search(list(range(8)))},
    run_config=tune.RunConfig(
        name="pbt_ppo", storage_path=str(here / "ray"), verbose=0,
        callbacks=[callback("pbt_ppo", wandb={"mode": "offline", "dir": "w"})],
    ),
)
results = tuner.fit()
print("errors", len(results.errors))
ray.shutdown()
"""
)

RESTORED = (
    COMMON
    + """
def train(config):
    for i in range(begun() + 1, 7):
        if i == 4 and not Path(config["flag"]).exists():
            print("waiting", flush=True)
            Path(config["flag"] + f"-{config['lr']}").touch()
            while not Path(config["flag"]).exists():
                signal.sigtimedwait([], 0.1)
        report(config, i)

start(2)
resources = tune.with_resources(train, {"cpu": 1})
if Path("ray", "sweep").exists():
    Path("flag").touch()
    tuner = tune.Tuner.restore(str(here / "ray" / "sweep"), resources, resume_unfinished=True)
else:
    tuner = tune.Tuner(
        resources,
        param_space={"lr": tune.grid_search([0.5, 1.0]), "flag": str(here / "flag")},
        run_config=tune.RunConfig(name="sweep", storage_path=str(here / "ray"), callbacks=[callback("restored")]),
    )
tuner.fit()
ray.shutdown()
"""
)

POPULATION = (
    COMMON
    + """
def wait_for(flag):
    for _ in range(600):
        if flag.exists():
            return
        signal.sigtimedwait([], 0.1)
    raise TimeoutError(flag.name)

def train(config):
    flags = Path(config["flags"])
    if config["lr"] == 5.0:
        (flags / "the worse goes on from the better").touch()
    for i in range(begun() + 1, 5):
        if config["lr"] == 0.1 and i == 3:
            (flags / "the worse has a score").touch()
        if config["lr"] == 0.1 and i == 4:
            wait_for(flags / "the better has a checkpoint")
        if config["lr"] == 1.0 and i == 2:
            wait_for(flags / "the worse has a score")
        if config["lr"] == 1.0 and i == 3:
            (flags / "the better has a checkpoint").touch()
        if config["lr"] == 1.0 and i == 4:
            wait_for(flags / "the worse goes on from the better")
        report(config, i, score=i * config["lr"])

start(2)
(here / "flags").mkdir()
scheduler = tune.schedulers.PopulationBasedTraining(
    time_attr="training_iteration",
    perturbation_interval=2,
    hyperparam_mutations={"lr": [5.0]},
    quantile_fraction=0.5,
)
tuner = tune.Tuner(
    tune.with_resources(train, {"cpu": 1}),
    param_space={"lr": tune.grid_search([0.1, 1.0]), "flags": str(here / "flags")},
    tune_config=tune.TuneConfig(metric="score", mode="max", scheduler=scheduler),
    run_config=tune.RunConfig(
        name="population", storage_path=str(here / "ray"), verbose=0, callbacks=[callback("population")]
    ),
)
tuner.fit()
ray.shutdown()
"""
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with running_mlflow_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def runs_of(uri: str, experiment: str) -> tuple[MlflowClient, Run, list[Run]]:
    """Returns the sweep's run, and those of its trials."""
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    (parent,) = [run for run in runs if "rl_logging.parent" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert {run.data.tags[NESTED] for run in children} == {parent.info.run_id}
    return client, parent, children


def checkpoints_of(client: MlflowClient, run: Run) -> list[str]:
    return [file.path.rpartition("/")[2] for file in client.list_artifacts(run.info.run_id, "models/checkpoint")]


def reported(folder: Path, trial_id: str) -> list[dict[str, Any]]:
    """Returns what Tune itself has written down of a trial."""
    (file,) = folder.glob(f"ray/*/*{trial_id}*/result.json")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_eight_trials_at_once(server: MlflowServer, tmp_path: Path) -> None:
    done = run_script(EIGHT, tmp_path, [server.uri], timeout_s=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "errors 2" in done.stdout
    client, parent, children = runs_of(server.uri, "pbt_ppo")
    assert len(children) == 8
    assert parent.info.status == "FINISHED"
    assert Counter(run.info.status for run in children) == {"FINISHED": 6, "FAILED": 2}
    for run in children:
        results = reported(tmp_path, run.data.tags["trial_name"].removeprefix("train_"))
        history = client.get_metric_history(run.info.run_id, "episode_reward_mean")
        expected = [(it["timesteps_total"], it["env_runners"]["episode_return_mean"]) for it in results]
        assert sorted((it.step, it.value) for it in history) == sorted(expected)
        assert set(checkpoints_of(client, run)) >= {f"step_{it['timesteps_total']}" for it in results}
    assert {run.data.params["which"] for run in children if run.info.status == "FAILED"} == {"3", "5"}
    for bundle in map(Bundle, find(tmp_path / "rl_runs")):
        assert not any(debt.anything for debt in owing(bundle)), bundle.path
    logs = {path.parent.name: path.read_text() for path in (tmp_path / "rl_runs").glob("*/delivery.log")}
    assert sum("delivered by process" in text for text in logs.values()) == 8, "one delivery process serves them all"
    stored = [read(folder) for folder in offline_directories(tmp_path / "w")]
    assert {run.group for run in stored} == {f"pbt_ppo-{parent.data.tags['rl_logging.run_id']}"}
    assert Counter(run.exit_codes[-1] for run in stored) == {0: 7, 1: 2}


def test_a_population_has_each_checkpoint_that_was_reported(server: MlflowServer, tmp_path: Path) -> None:
    done = run_script(POPULATION, tmp_path, [server.uri], timeout_s=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    client, _, children = runs_of(server.uri, "population")
    assert len(children) == 2
    for run in children:
        steps = [it["timesteps_total"] for it in reported(tmp_path, run.data.tags["trial_name"].removeprefix("train_"))]
        kept = [int(re.findall(r"\d+", name)[0]) for name in checkpoints_of(client, run)]
        assert sorted(kept) == sorted(steps)
    assert (tmp_path / "flags" / "the worse goes on from the better").exists(), "no trial was put aside"


def test_a_sweep_that_was_killed_goes_on_in_the_same_runs(server: MlflowServer, tmp_path: Path) -> None:
    first = start_script(RESTORED, tmp_path, [server.uri])
    try:
        for _ in range(TIMEOUT_S * 2):
            if len(list(tmp_path.glob("flag-*"))) == 2:
                break
            with pytest.raises(subprocess.TimeoutExpired):
                first.wait(0.5)
        else:
            pytest.fail("the trials did not come so far")
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    before = {path.name for path in find(tmp_path / "rl_runs")}
    second = run_script(RESTORED, tmp_path, [server.uri], timeout_s=TIMEOUT_S)
    assert second.returncode == 0, second.stderr[-3000:]
    assert {path.name for path in find(tmp_path / "rl_runs")} == before
    client, parent, children = runs_of(server.uri, "restored")
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    for run in children:
        history = client.get_metric_history(run.info.run_id, "episode_reward_mean")
        assert {it.step for it in history} == {100, 200, 300, 400, 500, 600}


def test_the_example(tmp_path: Path) -> None:
    script = "from rl_logging.examples.ray_sweep import main\nmain()\n"
    done = run_script(script, tmp_path, ["--dir", "out", "--timesteps", "2048"], timeout_s=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "best: " in done.stdout
    client, parent, children = runs_of(f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}", "cartpole-sweep")
    assert parent.info.run_name == "ppo-sweep"
    assert len(children) == 4
    for run in children:
        assert run.info.status == "FINISHED"
        assert run.data.metrics["episode_reward_mean"] > 0
        assert f"step_{int(run.data.metrics['timesteps'])}" in checkpoints_of(client, run)
