"""The run's clock, where a state has set it, and a training that begins before or after that."""

from __future__ import annotations

from pathlib import Path

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from rl_logging import ExperimentLogger
from tests.support.sb3_callbacks import cartpoles, open_run, points, ppo


def steps(logger: ExperimentLogger) -> list[int | None]:
    return [step for step, _ in points(logger, "iterations")]


@pytest.mark.parametrize("before", [0, 64])
def test_a_training_goes_on_where_the_state_has_set_the_clock(before: int, tmp_path: Path) -> None:
    with open_run(tmp_path) as logger:
        model = ppo()
        if before:
            model.learn(before, callback=logger.get_callbacks())
            assert logger.step == 64
        logger.load_state_dict({"step": 1_000})
        assert logger.step == 1_000
        logger.log_metrics({"mine": 1.0})
        model.learn(128, callback=logger.get_callbacks(checkpoint=True))
        assert logger.step == 1_128
        model.learn(64, callback=logger.get_callbacks())  # and no other
        logger.log_metrics({"mine": 2.0})
    assert [step for step in steps(logger) if step and step > 64] == [1_064, 1_128, 1_192]
    assert points(logger, "timesteps")[-1] == (1_192, 1_192.0)
    assert points(logger, "mine") == [(1_001, 1.0), (1_192, 2.0)]


def test_a_restored_model_has_the_steps_that_it_counts_itself(tmp_path: Path) -> None:
    with open_run(tmp_path, name="first") as logger:
        model = ppo()
        model.learn(128, callback=logger.get_callbacks())
        model.save(tmp_path / "model.zip")
        state = logger.state_dict()
    with open_run(tmp_path, resume=state["id"], resume_step=state["step"]) as logger:
        logger.load_state_dict(state)
        loaded = PPO.load(tmp_path / "model.zip", env=cartpoles(), device="cpu")
        loaded.learn(64, callback=logger.get_callbacks(), reset_num_timesteps=False)
        assert logger.step == loaded.num_timesteps == 192
    assert steps(logger)[-1] == 192


def test_told_to_restart_a_training_counts_for_itself(tmp_path: Path) -> None:
    with open_run(tmp_path, {"rl_logging": {"on_step_reset": "restart"}}) as logger:
        logger.load_state_dict({"step": 1_000})
        ppo().learn(64, callback=logger.get_callbacks())
    assert steps(logger) == [64]


def test_a_state_in_the_middle_of_a_training_is_for_the_next_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Load(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 32:
                logger.load_state_dict({"step": 1_000})
                assert logger.step == 32
            return True

    with open_run(tmp_path) as logger:
        ppo().learn(64, callback=[*logger.get_callbacks(), Load()])
        assert logger.step == 64
        ppo().learn(64, callback=logger.get_callbacks())
    assert steps(logger) == [64, 1_064]
    assert "load_state_dict: while a training is being logged its own clock counts" in caplog.text
