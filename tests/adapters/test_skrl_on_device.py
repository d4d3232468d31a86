"""SKRL's agents with rewards and figures on a device: skrl waits for it as ever, and the adapter does not.

The device is a stand-in. Passes under skrl 1.4.3 and 2.x alike.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from multiprocessing.connection import Client
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("skrl")
import torch

from rl_logging import ExperimentLogger
from rl_logging.adapters.skrl.names import name_table
from rl_logging.adapters.skrl.relay import Relay
from rl_logging.adapters.skrl.remote import RemoteLogger
from rl_logging.adapters.skrl.tap import Tap
from rl_logging.adapters.skrl_mlflow_agent import create_mlflow_logging_wrapper
from rl_logging.extraction import Interval
from rl_logging.journal import JournalReader
from rl_logging.records import End, Metrics, decode
from tests.support.cuda_stand_in import CudaTensor, Stream, stand_in
from tests.support.skrl_training import IS_1X, Training

STEPS = 40
Row = tuple[int | None, dict[str, float]]
CLOCKS = ("fps", "time_elapsed", "rollout_time", "learning_time", "epoch_time", "timing/")


class Watched(CudaTensor):
    """Counts who waits for it; an adapter that does fails."""

    waits: ClassVar[Counter[str]] = Counter()

    @classmethod
    def waited_for(cls, how: str) -> None:
        frame = sys._getframe(1)
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            if module.startswith("skrl."):
                cls.waits[f"{module.rpartition('.')[2]}.{frame.f_code.co_name}: {how}"] += 1
                return
            if module.startswith("rl_logging"):
                raise AssertionError(f"{module}.{frame.f_code.co_name} waits for the device: {how}")
            frame = frame.f_back  # type: ignore[assignment]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    for module in ("run.journaled", "adapters.skrl.remote", "adapters.skrl_mlflow.relay"):
        monkeypatch.setattr(f"rl_logging.{module}.may_wait_beside_captures", lambda: False)
    Watched.waits.clear()
    return stand_in(monkeypatch)


def there(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: there(entry) for key, entry in value.items()}
    return value.clone().as_subclass(Watched) if isinstance(value, torch.Tensor) else value


def as_isaac_lab(training: Training, *, on_device: bool) -> None:
    """Has the environment hand out rewards, ends and figures as Isaac Lab's do, and write into its own tensors later.

    A figure's mapping is new where an environment was reset, and stays until the next time.
    """
    step = training.env.step
    each = torch.arange(4.0)
    log: dict[str, Any] = {}

    def stepping(actions: Any) -> Any:
        nonlocal log
        observations, rewards, terminated, truncated, _ = step(actions)
        each.add_(1.0)
        if bool((terminated | truncated).any()):
            success = rewards.reshape(-1) * 0 + each.sum() % 2
            log = {
                "Episode_Reward/lift": each.sum(),
                "Episode_Reward/each": each.clone(),
                "Episode_Termination/fell": 3,
            }
            infos = {"log": log, "is_success": success}
        else:
            infos = {"log": log}
        if on_device:
            log = infos["log"] = log if any(isinstance(it, Watched) for it in log.values()) else there(log)
            infos = there({key: value for key, value in infos.items() if key != "log"}) | {"log": log}
            rewards, terminated, truncated = there(rewards), there(terminated), there(truncated)
        return observations, rewards, terminated, truncated, infos

    training.env.step = stepping


def as_sent_elsewhere(logger: ExperimentLogger, agent: Any, stream: Stream | None) -> Callable[[], None]:
    """Taps an agent as in a process of its own, whose logger is at the other end of a connection.

    Returns:
        What ends that, as the process's end does.
    """
    relay = Relay(logger, logger.pipeline(name_table(agent)), lambda step: None)
    connection: Any = Client(relay.address, authkey=multiprocessing.current_process().authkey)
    settings = SimpleNamespace(clock="env_steps", on_step_reset="continue")
    remote = RemoteLogger(connection, Interval.parse(logger.settings.interval), settings, None)
    tap = Tap(remote, agent, num_envs=None, initial_step=0, checkpoints=True, label="")

    def end() -> None:
        tap.detach()
        if stream is not None:
            assert len(remote._line._arriving)
            stream.run()
        remote.finish()
        connection.close()
        relay.close()

    return end


def trained(
    folder: Path,
    algorithm: str,
    interval: str,
    stream: Stream | None,
    environment_info: str,
    *,
    elsewhere: bool = False,
) -> dict[str, dict[int, float]]:
    training = Training(algorithm, folder, num_envs=4, max_episode_steps=15)
    as_isaac_lab(training, on_device=stream is not None)
    trainer = training.trainer(STEPS)
    if IS_1X:
        trainer.environment_info = environment_info
    else:
        trainer.cfg.environment_info = environment_info
    config = {"rl_logging": {"interval": interval}}
    with ExperimentLogger(config, dir=folder / "runs", delivery="offline", quiet=True) as logger:
        if elsewhere:
            end = as_sent_elsewhere(logger, training.agent, stream)
            trainer.train()
            end()
        else:
            logger.attach(training.agent)
            trainer.train()
            if stream is not None:
                assert logger._last_run.on_device > 0
                logger.on_finish(stream.run, last=False)
    return by_name(rows_of(logger.run_dir))


def rows_of(run_dir: Path) -> list[Row]:
    records = map(decode, JournalReader(run_dir / "journal").read())
    return [(record.step, record.values) for record in records if isinstance(record, Metrics)]


def by_name(rows: list[Row]) -> dict[str, dict[int, float]]:
    """Returns each metric's points; one that is there twice is an error, and what depends on the clock is left out."""
    points: dict[str, dict[int, float]] = {}
    for step, values in rows:
        assert step is not None
        for name, value in values.items():
            if not name.startswith(CLOCKS):
                assert step not in points.setdefault(name, {}), (name, step)
                points[name][step] = value
    return points


def assert_same(found: dict[str, dict[int, float]], expected: dict[str, dict[int, float]]) -> None:
    assert found.keys() == expected.keys()
    for name, points in expected.items():
        assert found[name].keys() == points.keys(), name
        np.testing.assert_allclose(
            list(found[name].values()), list(points.values()), rtol=1e-5, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize(
    ("algorithm", "interval", "environment_info"),
    [("PPO", "framework", "log"), ("PPO", "framework", "episode"), ("PPO", "step", "log"), ("SAC", "rollout", "log")],
)
def test_nobody_waits_but_skrl_and_the_figures_are_those_of_the_host(
    algorithm: str, interval: str, environment_info: str, tmp_path: Path, stream: Stream, caplog: Any
) -> None:
    on_host = trained(tmp_path / "host", algorithm, interval, None, environment_info)
    on_device = trained(tmp_path / "device", algorithm, interval, stream, environment_info)
    assert not [record for record in caplog.records if record.name == "rl_logging"]  # where a wait of ours is told
    assert {"episode_reward", "episode_reward_mean", "cumulative_rewards", "Episode_Reward/each/max"} <= on_host.keys()
    assert {"Episode_Reward/lift", "Episode_Termination/fell", "success_rate"} <= on_host.keys()
    assert_same(on_device, on_host)
    # What skrl itself waits for, in every step: whether an episode ended, and three rewards.
    assert Watched.waits["base.record_transition: nonzero"] == STEPS
    assert Watched.waits["base.record_transition: item"] == 3 * STEPS
    assert stream.waits == 0


@pytest.mark.parametrize("interval", ["framework", "step"])
def test_in_another_process_nobody_waits_either(interval: str, tmp_path: Path, stream: Stream, caplog: Any) -> None:
    on_host = trained(tmp_path / "host", "PPO", interval, None, "log", elsewhere=True)
    on_device = trained(tmp_path / "device", "PPO", interval, stream, "log", elsewhere=True)
    assert not [record for record in caplog.records if record.name == "rl_logging"]
    assert {"episode_reward_mean", "cumulative_rewards", "Episode_Reward/each/max", "success_rate"} <= on_host.keys()
    assert_same(on_device, on_host)
    assert stream.waits == 0


class Store:
    """Stands in for mlflow, as a documented use: what it is called with, by the training's own thread alone."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.rows.append((step, dict(metrics)))


def wrapped(folder: Path, stream: Stream | None, *, runs_on: bool) -> list[Row]:
    """Returns the rows of a training that the toolchain's wrapper logs; with `runs_on` the device works meanwhile."""
    training, store = Training("PPO", folder, num_envs=4, max_episode_steps=15), Store()
    as_isaac_lab(training, on_device=stream is not None)
    wrapper = create_mlflow_logging_wrapper(training.agent, store)
    training.agent._update = wrapper
    step = training.env.step

    def stepping(actions: Any) -> Any:
        if stream is not None and runs_on:
            stream.run()
        return step(actions)

    training.env.step = stepping
    training.trainer(STEPS).train()
    if stream is not None:
        assert bool(store.rows) is runs_on
        assert stream.waits == 0
        stream.run()
        stream.idle = True
    wrapper.finish(timeout=30)
    return store.rows


@pytest.mark.parametrize("runs_on", [True, False])
def test_the_toolchains_wrapper_waits_for_nothing(runs_on: bool, tmp_path: Path, stream: Stream, caplog: Any) -> None:
    on_host = wrapped(tmp_path / "host", None, runs_on=False)
    on_device = wrapped(tmp_path / "device", stream, runs_on=runs_on)
    assert [step for step, _ in on_device] == [step for step, _ in on_host] == [64, 128, 160]
    assert_same(by_name(on_device), by_name(on_host))
    assert {"episode_reward_mean", "cumulative_rewards", "policy_loss"} <= by_name(on_host).keys()
    assert not [record for record in caplog.records if record.name == "rl_logging"]


class Agent:
    """An agent that is not skrl's, with its loss on a device."""

    def __init__(self) -> None:
        self.tracking_data: dict[str, Any] = {}

    def update(self, timestep: int, timesteps: int) -> None:
        self.tracking_data = {"loss": there(torch.tensor(float(timestep)))}


def test_what_is_on_a_device_goes_to_the_run_that_was_active(
    tmp_path: Path, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RL_LOGGING_DELIVERY", "offline")
    active: Any = None
    mlflow: Any = ModuleType("mlflow")
    mlflow.get_tracking_uri = lambda: f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.active_run = lambda: active
    wrapper = create_mlflow_logging_wrapper(Agent(), mlflow)
    for step, name in enumerate(("first", "first", "second"), start=1):
        if active is None or active.info.run_name != name:
            active = SimpleNamespace(info=SimpleNamespace(run_id=f"{name}-id", run_name=name))
        wrapper(step, 9)
    runs = {path.name.rpartition("-")[0]: path for path in (tmp_path / "rl_runs").iterdir() if path.is_dir()}
    assert [rows_of(path) for path in runs.values()] == [[], []]
    assert not wrapper.flush(0)
    stream.run()
    wrapper.finish(timeout=180)
    for thread in threading.enumerate():
        if thread.name == "rl_logging-before":
            thread.join(30)
    assert rows_of(runs["first"]) == [(1, {"loss": 1.0}), (2, {"loss": 2.0})]
    assert rows_of(runs["second"]) == [(3, {"loss": 3.0})]
    for path in runs.values():
        *_, last = map(decode, JournalReader(path / "journal").read())
        assert isinstance(last, End)
    assert stream.waits == 0
