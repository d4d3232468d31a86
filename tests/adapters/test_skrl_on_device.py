"""SKRL's agents with rewards and figures on a device: skrl waits for it as ever, and the adapter does not.

The device is a stand-in. Passes under skrl 1.4.3 and 2.x alike.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("skrl")
import torch

from rl_logging import ExperimentLogger
from rl_logging.journal import JournalReader
from rl_logging.records import Metrics, decode
from tests.support.cuda_stand_in import CudaTensor, Stream, stand_in
from tests.support.skrl_training import IS_1X, Training

STEPS = 40
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
    monkeypatch.setattr("rl_logging.run.journaled.may_wait_beside_captures", lambda: False)
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


def trained(
    folder: Path, algorithm: str, interval: str, stream: Stream | None, environment_info: str
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
        logger.attach(training.agent)
        trainer.train()
        if stream is not None:
            assert logger._last_run.on_device > 0
            logger.on_finish(stream.run, last=False)
    points: dict[str, dict[int, float]] = {}
    for record in map(decode, JournalReader(logger.run_dir / "journal").read()):
        if isinstance(record, Metrics):
            assert record.step is not None
            for name, value in record.values.items():
                if not name.startswith(CLOCKS):
                    assert record.step not in points.setdefault(name, {}), (name, record.step)
                    points[name][record.step] = value
    return points


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
    assert on_device.keys() == on_host.keys()
    for name, points in on_host.items():
        assert on_device[name].keys() == points.keys(), name
        np.testing.assert_allclose(
            list(on_device[name].values()), list(points.values()), rtol=1e-5, atol=1e-6, err_msg=name
        )
    # What skrl itself waits for, in every step: whether an episode ended, and three rewards.
    assert Watched.waits["base.record_transition: nonzero"] == STEPS
    assert Watched.waits["base.record_transition: item"] == 3 * STEPS
    assert stream.waits == 0
