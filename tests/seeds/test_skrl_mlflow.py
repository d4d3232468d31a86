"""The SKRL and MLflow toolchain's snippets, run. Passes under skrl 1.4.3 and 2.x alike.

In every one that imports, one line is changed: where the wrapper is imported from. ``runner.agent._update =
wrapper_func`` stays as written, though skrl 2 calls no such method. CartPole stands for Isaac Lab's task, and a local
store for Azure's.
"""

from __future__ import annotations

import ast
import shlex
import textwrap

import pytest

pytest.importorskip("skrl")

from mlflow import MlflowClient
from mlflow.entities import Run

from tests.seeds.snippets import Snippet, snippets
from tests.support.mlflow_database import database
from tests.support.processes import run_script

SNIPPETS = snippets("skrl_mlflow")
OLD_IMPORT = "from training.scripts.skrl_mlflow_agent import create_mlflow_logging_wrapper"
NEW_IMPORT = "from rl_logging.adapters.skrl_mlflow_agent import create_mlflow_logging_wrapper"
FILTERS = ("basic metrics", "optimization metrics", "production metrics")
COMMANDS = ("intervals", "isaac lab")

SETTING = """
import gymnasium as gym
import torch
from rl_logging.examples.skrl_training.agents import runner_config
from rl_logging.examples.skrl_training.environments import make_gymnasium

torch.set_num_threads(1)
env = make_gymnasium("CartPole-v1", 2, seed=1, video=None, show=print)
agent_cfg = runner_config("PPO", env)
agent_cfg["agent"] |= {"rollouts": 16, "experiment": {"directory": "skrl", "checkpoint_interval": 0}}
agent_cfg["trainer"] = {"class": "SequentialTrainer", "timesteps": 72, "headless": True, "disable_progressbar": True}
agent_cfg["trainer"]["close_environment_at_exit"] = False
agent_cfg["seed"] = 1
"""
STEPS = [32, 64, 96, 128]  # an update every 16 steps of 2 environments
LAST = 144


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return database(tmp_path_factory.mktemp("store") / "mlflow.db")


def test_every_snippet_is_here() -> None:
    assert sorted(SNIPPETS) == sorted([*FILTERS, *COMMANDS, "integration"])


@pytest.fixture(scope="module")
def said(store: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Runs all that is Python, in one process to its exit, each with a run of its own; returns what it said."""
    program = [SETTING, changed("integration", store).code]
    for name in FILTERS:
        body = f"runner = Runner(env, agent_cfg)\n{changed(name, store).code}\nrunner.run()\n"
        program += [f"with mlflow.start_run(run_name={name!r}):", textwrap.indent(body, "    ")]
    done = run_script("\n".join(program), tmp_path_factory.mktemp("program"), timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert "Failed to extract or log" not in done.stderr
    return done.stderr


def changed(name: str, store: str) -> Snippet:
    """Returns a snippet with its import changed, where it has one, and Azure's store."""
    snippet = SNIPPETS[name]
    for old, new in {
        OLD_IMPORT: NEW_IMPORT,
        'mlflow.set_tracking_uri("azureml://...")': f'mlflow.set_tracking_uri("{store}")',
    }.items():
        snippet = snippet.with_line(old, new) if old in snippet.code else snippet
    return snippet


def test_the_integration_as_written(said: str, store: str) -> None:
    (run,) = (run for run in runs_of(store, "isaaclab-training") if run.info.run_name not in FILTERS)
    assert run.info.status == "FINISHED"
    documented = {
        *("episode_reward", "episode_reward_mean", "episode_length", "episode_length_mean", "cumulative_rewards"),
        *("mean_rewards", "policy_loss", "value_loss", "entropy", "learning_rate", "grad_norm", "kl_divergence"),
        *("timesteps", "iterations", "fps", "epoch_time", "rollout_time", "learning_time"),
    }
    # Of CartPole nobody says what a success is, and PPO has no critic beside its value.
    assert documented - set(run.data.metrics) == set()
    assert steps(store, run, "policy_loss") == STEPS
    assert steps(store, run, "timesteps") == [*STEPS, LAST]
    assert run.data.metrics["timesteps"] == LAST


@pytest.mark.parametrize("name", FILTERS)
def test_the_filters_log_what_they_name(name: str, said: str, store: str) -> None:
    (run,) = (run for run in runs_of(store, "isaaclab-training") if run.info.run_name == name)
    named = ast.literal_eval("{" + SNIPPETS[name].code.partition("= {")[2].partition("}")[0] + "}")
    # Nobody says what a success is in CartPole, and that is told.
    assert set(run.data.metrics) == named - {"success_rate"}
    assert run.info.status == "FINISHED"
    for metric in run.data.metrics:
        at = steps(store, run, metric)
        if metric.startswith("episode_"):
            at = [step for step in STEPS if step < at[0]] + at  # none was over before
        assert at in (STEPS, [*STEPS, LAST]), metric
    if "success_rate" in named:
        assert "rl_logging.metric_filter: nothing was called 'success_rate'" in said


@pytest.mark.parametrize(
    ("number", "interval", "points"),
    [(0, "step", 36), (1, "balanced", 4), (2, "rollout", 1), (3, "100", 1)],
)
def test_the_intervals_are_applied(
    number: int, interval: str, points: int, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `python src/training/scripts/skrl_training.py` became `python -m rl_logging.examples.skrl_training`.
    line = [line for line in SNIPPETS["intervals"].code.splitlines() if line.startswith("python")][number]
    train(line, store, f"interval {number}", monkeypatch, "--task CartPole-v1 --num_envs 2 --timesteps 72 --seed 1")
    (run,) = runs_of(store, f"interval {number}")
    assert run.data.params["mlflow_log_interval"] == interval
    assert len(steps(store, run, "timesteps")) == points
    assert run.data.metrics["timesteps"] == 72


def test_an_isaac_lab_task_needs_isaac_lab(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import click

    with pytest.raises(click.UsageError, match="'Isaac-Cartpole-v0' is a task of Isaac Lab, which is not installed"):
        train(SNIPPETS["isaac lab"].code.replace("\\\n", ""), store, "isaac", monkeypatch)


def test_its_command_line_trains_another_task(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = SNIPPETS["isaac lab"].code.replace("\\\n", "").replace("Isaac-Cartpole-v0", "CartPole-v1")
    train(line.replace("512", "4"), store, "line", monkeypatch, "--timesteps 256")
    (run,) = runs_of(store, "line")
    assert (run.info.status, run.data.params["num_envs"]) == ("FINISHED", "4")


def train(line: str, store: str, experiment: str, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
    """Runs a command line of the document in this process, with what is added to it."""
    from rl_logging.examples.skrl_training.__main__ import main

    python, script, *arguments = shlex.split(line)
    assert (python, script) == ("python", "src/training/scripts/skrl_training.py")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
    main(args=[*arguments, *shlex.split(more)], standalone_mode=False)


def runs_of(store: str, experiment: str) -> list[Run]:
    client = MlflowClient(store)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


def steps(store: str, run: Run, name: str) -> list[int]:
    return [point.step for point in MlflowClient(store).get_metric_history(run.info.run_id, name)]
