"""The wrapper of the SKRL and MLflow toolchain. Passes under skrl 1.4.3 and 2.x alike.

The mlflow module is mostly stood in for by an object with ``log_metrics``, which is a documented use; the real one has
its tests at the end.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("skrl")

import mlflow
import torch

from rl_logging.adapters.skrl_mlflow_agent import (
    _extract_from_tracking_data,
    _extract_from_value,
    create_mlflow_logging_wrapper,
)
from tests.support.skrl_multi_agent import MultiAgentTraining
from tests.support.skrl_training import IS_1X, Training


class Metrics:
    """Stands in for mlflow: keeps what it is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.error = error

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        if self.error is not None:
            raise self.error
        self.rows.append((step, dict(metrics)))

    def steps(self, name: str) -> list[int]:
        return [step for step, metrics in self.rows if name in metrics]


class OwnAgent:
    """An agent that is not skrl's."""

    def __init__(self, **tracked: Any) -> None:
        self.tracking_data: dict[str, Any] = tracked
        self.calls: list[tuple[int, int]] = []

    def _update(self, timestep: int, timesteps: int) -> str:
        self.calls.append((timestep, timesteps))
        return "updated"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, {}),
        (2, {"x": 2.0}),
        (np.float32(0.5), {"x": 0.5}),
        (torch.tensor([3.0], requires_grad=True), {"x": 3.0}),
        ([4.0], {"x": 4.0}),
        (torch.tensor([1.0, 3.0]), {"x/mean": 2.0, "x/std": 1.0, "x/min": 1.0, "x/max": 3.0}),
        (np.array([1, 3]), {"x/mean": 2.0, "x/std": 1.0, "x/min": 1.0, "x/max": 3.0}),
        ([1.0, 3.0], {"x/mean": 2.0, "x/std": 1.0, "x/min": 1.0, "x/max": 3.0}),
        ([], {}),
        ("text", {}),
        (object(), {}),
    ],
)
def test_values_become_metrics_in_place(value: object, expected: dict[str, float]) -> None:
    metrics = {"before": 1.0}
    _extract_from_value("x", value, metrics)
    assert metrics == {"before": 1.0, **expected}


def test_tracked_data_is_read_two_levels_deep() -> None:
    data = {"a": 1, "b": {"c": [2.0], "d": {"e": 3}}, "f": None}
    metrics: dict[str, float] = {}
    _extract_from_tracking_data(data, metrics, "p/")
    assert metrics == {"p/a": 1.0, "p/b/c": 2.0}
    _extract_from_tracking_data(data, metrics, prefix="", max_depth=3)
    assert metrics["b/d/e"] == 3.0


def test_an_agent_of_ones_own_is_logged_when_it_is_called() -> None:
    agent, store = OwnAgent(**{"Loss / Policy loss": [0.5], "own": {"part": torch.arange(3.0)}}), Metrics()
    agent.success_rate = 0.25  # type: ignore[attr-defined]
    wrapper = create_mlflow_logging_wrapper(agent, store)
    assert store.rows == []
    assert wrapper(10, 100) == "updated"
    assert store.rows[0][0] == 10
    assert store.rows[0][1] == pytest.approx(
        {
            **{"policy_loss": 0.5, "success_rate": 0.25},
            **{"own/part/mean": 1.0, "own/part/std": np.std([0, 1, 2]), "own/part/min": 0.0, "own/part/max": 2.0},
        }
    )
    agent._update = wrapper  # type: ignore[method-assign]
    agent._update(timesteps=100, timestep=20)
    agent._update(30, timesteps=100)
    assert [step for step, _ in store.rows] == [10, 20, 30]
    assert agent.calls == [(10, 100), (20, 100), (30, 100)]


def test_of_a_list_that_grows_only_the_new_part_counts() -> None:
    agent, store = OwnAgent(**{"Loss / Value loss": [1.0, 3.0], "Reward / Total reward (max)": [5.0, 7.0]}), Metrics()
    wrapper = create_mlflow_logging_wrapper(agent, store)
    wrapper(1, 9)
    agent.tracking_data["Loss / Value loss"].append(9.0)
    wrapper(2, 9)
    wrapper(3, 9)
    values = [metrics["value_loss"] for _, metrics in store.rows]
    assert values[:2] == [2.0, 9.0]
    assert values[2] == pytest.approx(13 / 3)  # nothing new: what there is
    assert store.rows[0][1]["Reward/Total reward/max"] == 7.0


def test_the_wrapped_method_is_called_as_it_can_be() -> None:
    calls: list[Any] = []

    def keywords(*, timestep: int, timesteps: int, uid: str | None = None) -> None:
        calls.append((timestep, timesteps, uid))

    def others(t: int, n: int) -> None:
        calls.append((t, n))

    new = SimpleNamespace(tracking_data={}, update=keywords)
    create_mlflow_logging_wrapper(new, Metrics())(10, 100)
    create_mlflow_logging_wrapper(new, Metrics())(timestep=11, timesteps=100, uid="a")
    own = SimpleNamespace(tracking_data={}, _update=others)
    create_mlflow_logging_wrapper(own, Metrics())(timestep=12, timesteps=100)
    assert calls == [(10, 100, None), (11, 100, "a"), (12, 100)]
    with pytest.raises(TypeError):
        create_mlflow_logging_wrapper(own, Metrics())()


def test_what_a_filter_leaves_out_is_not_logged() -> None:
    agent, store = OwnAgent(**{"Loss / Policy loss": [0.5], "Loss / Value loss": [1.5], "g": np.arange(2.0)}), Metrics()
    create_mlflow_logging_wrapper(agent, store, metric_filter={"policy_loss", "g"})(1, 9)
    assert set(store.rows[0][1]) == {"policy_loss", "g/mean", "g/std", "g/min", "g/max"}
    create_mlflow_logging_wrapper(agent, store, metric_filter=set())(2, 9)
    assert "value_loss" in store.rows[1][1]
    create_mlflow_logging_wrapper(agent, store, metric_filter="value_loss")(3, 9)
    assert set(store.rows[2][1]) == {"value_loss"}


def test_errors_are_the_documents() -> None:
    with pytest.raises(AttributeError) as caught:
        create_mlflow_logging_wrapper(SimpleNamespace(_update=print), Metrics())
    assert str(caught.value) == (
        "Agent must have 'tracking_data' attribute for MLflow metric logging. "
        "Agent type SimpleNamespace does not support metric tracking."
    )
    with pytest.raises(AttributeError, match="'_update' \\(skrl 1\\) or 'update' \\(skrl 2\\)"):
        create_mlflow_logging_wrapper(SimpleNamespace(tracking_data={}), Metrics())
    with pytest.raises(TypeError, match="mlflow_module: got None, must be the mlflow module"):
        create_mlflow_logging_wrapper(OwnAgent(), None)


def test_a_store_that_fails_is_told_once_and_training_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    wrapper = create_mlflow_logging_wrapper(OwnAgent(loss=1.0), Metrics(RuntimeError("no route")))
    assert [wrapper(12, 100), wrapper(13, 100)] == ["updated"] * 2
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "Failed to extract or log metrics at step 12: no route"
    ]


def test_an_error_of_the_update_is_the_trainings_own() -> None:
    agent = SimpleNamespace(tracking_data={}, _update=lambda timestep, timesteps: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        create_mlflow_logging_wrapper(agent, Metrics())(1, 2)


# skrl's own agents.


@pytest.mark.parametrize("name", ["_update", "update", None])
@pytest.mark.parametrize(("algorithm", "steps"), [("PPO", [64, 128]), ("SAC", [40, 80, 120])])
def test_a_skrl_agent_is_logged_once_whatever_is_assigned(
    algorithm: str, steps: list[int], name: str | None, tmp_path: Path
) -> None:
    training, store = Training(algorithm, tmp_path), Metrics()
    wrapper = create_mlflow_logging_wrapper(training.agent, store)
    if name is not None:
        setattr(training.agent, name, wrapper)
    training.trainer(35).train()
    assert [step for step, _ in store.rows] == steps
    assert store.steps("policy_loss") == (steps if algorithm == "PPO" else steps[1:])
    wrapper.finish()
    assert [step for step, _ in store.rows] == [*steps, 140]
    assert store.rows[-1][1]["timesteps"] == 140
    left = {"_update", "update"} & set(vars(training.agent))
    assert left == ({name} if name is not None else set())
    assert not {"record_transition", "post_interaction", "write_tracking_data"} & set(vars(training.agent))
    training.trainer(16).train()
    assert len(store.rows) == len(steps) + 1


def test_the_interval_is_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training, store = Training("PPO", tmp_path), Metrics()
    create_mlflow_logging_wrapper(training.agent, store, interval=5)
    training.trainer(20).train()
    assert [step for step, _ in store.rows] == [20, 40, 60, 80]
    monkeypatch.setenv("RL_LOGGING_INTERVAL", "10")
    training, store = Training("PPO", tmp_path / "second"), Metrics()
    create_mlflow_logging_wrapper(training.agent, store, interval=5)
    training.trainer(20).train()
    assert [step for step, _ in store.rows] == [40, 80]


def test_attributes_of_a_skrl_agent_are_logged_with_its_row(tmp_path: Path) -> None:
    training, store = Training("PPO", tmp_path), Metrics()
    training.agent.success_rate = torch.tensor(0.75)
    training.agent.fps = 1.0  # what the tap has measured itself stays
    create_mlflow_logging_wrapper(training.agent, store)
    training.trainer(16).train()
    ((_, metrics),) = store.rows
    assert metrics["success_rate"] == 0.75
    assert metrics["fps"] > 1.0


def test_agents_ids_are_passed_on(tmp_path: Path) -> None:
    training, store = MultiAgentTraining(tmp_path), Metrics()
    name = "_update" if IS_1X else "update"
    setattr(training.agent, name, create_mlflow_logging_wrapper(training.agent, store))
    training.trainer(32).train()
    uids = training.agent.possible_agents
    assert all(store.steps(f"policy_loss/{uid}") for uid in uids)


def test_a_second_wrapper_takes_the_place_of_the_first(tmp_path: Path) -> None:
    training, first, second = Training("PPO", tmp_path), Metrics(), Metrics()
    for store, filters in ((first, None), (second, {"policy_loss"})):
        training.agent._update = create_mlflow_logging_wrapper(training.agent, store, filters)
    training.trainer(32).train()
    assert first.rows == []
    assert [set(metrics) for _, metrics in second.rows] == [{"policy_loss"}] * 2


def test_a_copied_agent_trains_unlogged(tmp_path: Path) -> None:
    training, store = Training("PPO", tmp_path), Metrics()
    name = "_update" if IS_1X else "update"
    setattr(training.agent, name, create_mlflow_logging_wrapper(training.agent, store))
    copied = copy.deepcopy(training.agent)
    training.agent, original = copied, training.agent
    training.trainer(16).train()
    assert store.rows == []
    training.agent = original
    training.trainer(16).train()
    assert len(store.rows) == 1


def test_a_failing_store_fails_no_skrl_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    training = Training("PPO", tmp_path)
    create_mlflow_logging_wrapper(training.agent, Metrics(OSError("disk on fire")))
    training.trainer(32).train()
    assert "Failed to extract or log metrics at step 64: disk on fire" in caplog.text


# The real mlflow.


@pytest.fixture
def uri(mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    backends = str(Path(__file__).parents[2] / "backends")
    monkeypatch.syspath_prepend(backends)  # an environment beside the usual one has them on no path of its own
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
    mlflow.set_tracking_uri(mlflow_uri)
    mlflow.set_experiment("toolchain")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("nothing is sent from this process")

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", refuse)
    monkeypatch.setattr(mlflow, "log_metrics", refuse)
    monkeypatch.setenv("RL_LOGGING_DELIVERY", "process")
    yield mlflow_uri
    mlflow.set_tracking_uri(None)  # what is set here would go before every other test's environment


def test_metrics_go_to_the_run_that_is_active(uri: str, tmp_path: Path) -> None:
    training = Training("PPO", tmp_path)
    wrapper = create_mlflow_logging_wrapper(training.agent, mlflow, {"policy_loss", "timesteps"})
    first = mlflow.start_run(run_name="first")
    training.trainer(32).train()
    assert wrapper.flush(60)
    assert steps_of(first, "policy_loss") == [64, 128]
    mlflow.end_run("FAILED")
    with mlflow.start_run() as second:
        training.trainer(20).train()
    # The last window comes after the run has ended, and leaves it so.
    wrapper.finish()
    assert steps_of(second, "timesteps") == [192, 208]
    assert steps_of(first, "policy_loss") == [64, 128]
    client = mlflow.MlflowClient(uri)
    assert client.get_run(first.info.run_id).info.status == "FAILED"
    assert client.get_run(second.info.run_id).info.status == "FINISHED"
    params = client.get_run(second.info.run_id).data.params
    assert params["algo/class"] == "PPO"
    assert not {"num_envs", "seed"} & set(params)  # names the user may log himself
    assert {path.name.rpartition("-")[0] for path in Path("rl_runs").iterdir() if path.is_dir()} >= {"first"}


def test_without_an_active_run_there_is_one_of_their_own(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    wrapper = create_mlflow_logging_wrapper(OwnAgent(loss=2.0), mlflow)
    wrapper(5, 10)
    wrapper.finish()
    assert mlflow.active_run() is None
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("toolchain")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 2.0})
    assert "no MLflow run is active" in caplog.text


def test_what_is_owed_at_the_end_is_told(
    uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RL_LOGGING_DELIVERY", "offline")
    with mlflow.start_run():
        wrapper = create_mlflow_logging_wrapper(OwnAgent(loss=2.0), mlflow)
        wrapper(5, 10)
    wrapper.finish()
    wrapper.finish()
    assert caplog.text.count("MLflow does not have all metrics yet") == 1
    assert "$ rl-logging sync " in caplog.text


def test_a_sink_that_cannot_be_had_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_logging.plugins.installed", lambda: {})
    with pytest.raises(ImportError, match="no sink is called 'mlflow'"):
        create_mlflow_logging_wrapper(OwnAgent(), mlflow)


def steps_of(run: Any, name: str) -> list[int]:
    return [point.step for point in mlflow.MlflowClient().get_metric_history(run.info.run_id, name)]
