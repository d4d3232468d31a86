"""Every torch agent of skrl, trained for a few hundred steps: our points are those of skrl's own TensorBoard file.

It runs under skrl 2.x and under 1.4.3, and keeps which names each algorithm has logged, for the table in the docs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skrl.memories.torch import RandomMemory
from skrl.trainers.torch import ParallelTrainer, SequentialTrainer, StepTrainer

from rl_logging.adapters.skrl import attach
from rl_logging.adapters.skrl.names import name_table
from tests.matrix import report
from tests.support.skrl_algorithms import SINGLE_AGENTS, AlgorithmTraining
from tests.support.skrl_logger import FakeLogger, same
from tests.support.skrl_multi_agent import MultiAgentTraining
from tests.support.skrl_runner import RunnerTraining
from tests.support.skrl_training import IS_1X, Training, scalars_in

FRAMEWORK = "SKRL 1.4.3" if IS_1X else "SKRL 2"
MULTI_AGENTS = ("IPPO", "MAPPO")
STEPS = 210
WRITE_EVERY = 20
PER_EPISODE = {"episode_reward", "episode_length"}


def last_window(agent: Any) -> dict[str, float]:
    """Returns what skrl has tracked since it wrote last and will not write, by its own reduction."""
    return {
        tag: float((np.min if tag.endswith("(min)") else np.max if tag.endswith("(max)") else np.mean)(values))
        for tag, values in agent.tracking_data.items()
        if values
    }


def assert_as_written(
    logger: FakeLogger,
    training: Training,
    left: Mapping[str, float],
    *,
    envs: int,
    steps: int,
    write_every: int = WRITE_EVERY,
) -> None:
    """Compares all of skrl's file, and what it has dropped, with what was logged.

    Args:
        logger: What was logged; a point logged twice fails.
        training: The training, with skrl's file.
        left: The last window, by tag.
        envs: Environment steps in a step of the agent.
        steps: How many steps it was trained.
        write_every: How often skrl wrote.
    """
    points = logger.points()
    table = name_table(training.agent)
    written = training.scalars()
    assert len(written) >= 9
    every = sorted(step * envs for step in range(write_every, steps + 1, write_every))
    for tag in written.keys() | left.keys():
        rename = table.lookup(tag)
        expected = {step * envs: value * rename.scale for step, value in written.get(tag, {}).items()}
        if tag in left:
            expected[steps * envs] = left[tag] * rename.scale
        assert same(points[rename.canonical], expected), tag
    # Nothing at any other time, but for what belongs to one episode.
    for name, curve in points.items():
        if name not in PER_EPISODE:
            assert curve.keys() <= {*every, steps * envs}, name
    assert logger.warnings == {}


@pytest.mark.parametrize("algorithm", SINGLE_AGENTS)
def test_every_agent(algorithm: str, tmp_path: Path) -> None:
    training = AlgorithmTraining(algorithm, tmp_path, num_envs=3)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(STEPS).train()
    left = last_window(training.agent)
    handle.detach()

    assert_as_written(logger, training, left, envs=3, steps=STEPS)
    points = logger.points()
    assert points["timesteps"][STEPS * 3] == STEPS * 3
    assert {"iterations", "fps", "rollout_time", "learning_time", "epoch_time", "episode_reward_mean"} <= points.keys()
    report.keep(FRAMEWORK, algorithm, points)


@pytest.mark.parametrize("algorithm", MULTI_AGENTS)
def test_every_multi_agent(algorithm: str, tmp_path: Path) -> None:
    training = MultiAgentTraining(tmp_path, algorithm, adapts_rate=True)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(STEPS).train()
    left = last_window(training.agent)
    handle.detach()

    assert_as_written(logger, training, left, envs=3, steps=STEPS)
    names = set(logger.points())
    assert {"policy_loss/left", "policy_loss/right", "kl_divergence/left", "grad_norm"} <= names
    # The docs' table has one line for all ids.
    report.keep(FRAMEWORK, algorithm, {name.replace("/left", "/<id>").replace("/right", "/<id>") for name in names})


def test_the_write_interval_that_skrl_finds_itself(tmp_path: Path) -> None:
    """A hundredth of the training, settled only when the trainer is made: after the attachment."""
    training = AlgorithmTraining("SAC", tmp_path, num_envs=2, write_interval="auto")
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(310).train()
    left = last_window(training.agent)
    handle.detach()
    assert_as_written(logger, training, left, envs=2, steps=310, write_every=3)


@pytest.mark.parametrize("kind", [StepTrainer, ParallelTrainer])
def test_trainers(kind: Any, tmp_path: Path) -> None:
    training = AlgorithmTraining("SAC", tmp_path, num_envs=2)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    cfg = {"timesteps": 90, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    trainer = kind(env=training.env, agents=[training.agent], cfg=cfg)
    if kind is StepTrainer:
        for timestep in range(90):
            if IS_1X:  # with one agent it works only like this: it wraps its agent once more at each call
                trainer.agents, trainer.agents_scope = training.agent, [(0, 2)]
            trainer.train(timestep=timestep, timesteps=90)
    else:
        trainer.train()
    left = last_window(training.agent)
    handle.detach()
    assert_as_written(logger, training, left, envs=2, steps=90)


@pytest.mark.parametrize(
    "kind",
    [
        SequentialTrainer,
        pytest.param(
            ParallelTrainer,
            marks=pytest.mark.skipif(IS_1X, reason="skrl 1.4.3's own fails with several agents, logged or not"),
        ),
    ],
)
def test_agents_that_share_environments(kind: Any, tmp_path: Path) -> None:
    """A trainer with several agents, each with a scope of the environments, in this process or one of their own."""
    scopes = [2, 3]
    trainings = [AlgorithmTraining("SAC", tmp_path / str(number), num_envs=5) for number in range(2)]
    for training, envs in zip(trainings, scopes, strict=True):
        training.agent.memory = RandomMemory(memory_size=200, num_envs=envs, device="cpu")
    agents = [training.agent for training in trainings]
    cfg = {"timesteps": 90, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    given = {"agents_scope" if IS_1X else "scopes": list(scopes)}  # it writes into them
    trainer = kind(env=trainings[0].env, agents=agents, cfg=cfg, **given)
    logger = FakeLogger()
    handle = attach(logger, trainer)
    trainer.train()
    handle.detach()

    assert logger.warnings == {}
    points = logger.points()
    for number, (training, envs) in enumerate(zip(trainings, scopes, strict=True)):
        own = f"agent_{number}/"
        table = name_table(training.agent)
        written = scalars_in(training.directory / "run")
        assert len(written) >= 9
        for tag, curve in written.items():
            rename = table.lookup(tag)
            ours = dict(points[own + rename.canonical])
            ours.pop(90 * envs, None)
            assert same(ours, {step * envs: value * rename.scale for step, value in curve.items()}), tag
        assert points[own + "mean_rewards"].keys() == {step * envs for step in (20, 40, 60, 80, 90)}
        first = 0 if number == 0 else scopes[0]
        if not IS_1X:  # which resets all of them when one ends
            ended = [it for it in trainings[0].finished if first <= it[2] < first + envs]
            assert points[own + "episode_length_mean"][90 * envs] == np.mean([it[1] for it in ended])
            assert points[own + "episode_reward_mean"][90 * envs] == pytest.approx(np.mean([it[0] for it in ended]))
    assert all(name.startswith(("agent_0/", "agent_1/")) for name in points)


def test_an_evaluation(tmp_path: Path) -> None:
    # All of it is one window, which skrl itself would write in parts.
    training = AlgorithmTraining("PPO", tmp_path, num_envs=2, write_interval=1000)
    logger = FakeLogger()
    handle = attach(logger, training.agent)
    training.trainer(90).eval()
    whole = last_window(training.agent)
    handle.detach()
    points = logger.points()
    table = name_table(training.agent)
    assert len(whole) >= 9
    for tag, value in whole.items():
        rename = table.lookup(tag)
        assert points[f"eval/{rename.canonical}"] == {0: pytest.approx(value * rename.scale)}, tag
    assert all(name.startswith("eval/") and curve.keys() == {0} for name, curve in points.items())
    assert logger.warnings == {}


@pytest.mark.parametrize("attach_to", ["runner", "agent"])
def test_a_runner(attach_to: str, tmp_path: Path) -> None:
    training = RunnerTraining(tmp_path, timesteps=90, num_envs=2)
    logger = FakeLogger()
    handle = attach(logger, getattr(training, attach_to))
    training.runner.run("train")
    left = last_window(training.agent)
    handle.detach()
    assert_as_written(logger, training, left, envs=2, steps=90)
    assert logger.merged_config()["seed"] == training.seed
