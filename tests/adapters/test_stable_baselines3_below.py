"""Metrics of a training whose callback stands below another one, which is told of the steps in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback, EveryNTimesteps

from rl_logging.adapters.stable_baselines3 import make_callbacks
from tests.support.adapter_logger import AdapterLogger
from tests.support.sb3_callbacks import cartpoles, ppo

TIMES = {"fps", "time_elapsed", "rollout_time", "learning_time", "epoch_time"}
HOOKS = {"on_step", "on_rollout_start", "on_rollout_end", "on_training_end"}

Place = Callable[[BaseCallback], BaseCallback]

BELOW: dict[str, Place] = {
    "every n": lambda callback: EveryNTimesteps(40, callback),
    "a list in every n": lambda callback: EveryNTimesteps(40, CallbackList([callback])),
    "every n in a list in every n": lambda callback: EveryNTimesteps(
        30, CallbackList([EveryNTimesteps(40, CallbackList([callback]))])
    ),
    "lists in lists": lambda callback: CallbackList([CallbackList([callback])]),
}
TWICE: dict[str, Place] = {
    "in a list": lambda callback: CallbackList([callback, callback]),
    "below two": lambda callback: CallbackList([EveryNTimesteps(40, callback), EveryNTimesteps(30, callback)]),
    "below one and in the list": lambda callback: CallbackList([EveryNTimesteps(40, callback), callback]),
}


def logged(logger: AdapterLogger) -> list[tuple[int, dict[str, float]]]:
    """Returns what does not depend on how fast it went."""
    return [(step, {name: row[name] for name in row.keys() - TIMES}) for step, row in logger.rows]


class Stop(BaseCallback):
    def _on_step(self) -> bool:
        if self.num_timesteps == 100:
            raise KeyboardInterrupt
        return True


@pytest.mark.parametrize("interval", ["framework", "step"])
@pytest.mark.parametrize("place", BELOW.values(), ids=BELOW)
def test_below_another_callback_everything_is_logged(place: Place, interval: str) -> None:
    there, below = AdapterLogger(interval), AdapterLogger(interval)
    ppo().learn(256, callback=make_callbacks(there))
    callback = place(make_callbacks(below)[0])
    ppo().learn(256, callback=[callback])
    assert logged(below) == logged(there)
    assert below.names == there.names
    assert {"episode_reward", "rollout_time", "learning_time", "grad_norm"} <= below.names
    assert below.warnings == {}
    assert HOOKS.isdisjoint(vars(callback))


@pytest.mark.parametrize("interval", ["framework", "rollout"])
@pytest.mark.parametrize("place", TWICE.values(), ids=TWICE)
def test_a_callback_that_is_told_everything_twice_logs_it_once(place: Place, interval: str) -> None:
    once, twice = AdapterLogger(interval), AdapterLogger(interval)
    ppo().learn(128, callback=make_callbacks(once))
    callbacks = place(make_callbacks(twice)[0])
    ppo().learn(128, callback=callbacks)
    assert logged(twice) == logged(once)
    assert all(HOOKS.isdisjoint(vars(callback)) for callback in callbacks.callbacks)


def test_below_an_evaluation() -> None:
    logger = AdapterLogger()
    model = ppo()
    evaluation = EvalCallback(
        cartpoles(), callback_after_eval=make_callbacks(logger)[0], eval_freq=40, n_eval_episodes=1, verbose=0
    )
    model.learn(128, callback=CallbackList([evaluation]))
    assert [step for step, _ in logger.points("eval/episode_reward_mean")] == [80]
    assert [step for step, _ in logger.points("fps")] == [64, 128]
    assert logger.points("episode_reward")
    assert logger.warnings == {}
    assert not {"record", "record_mean", "dump"} & vars(model.logger).keys()


@pytest.mark.parametrize("then", ["finish", "learn"])
def test_after_an_exception_the_callback_above_is_as_it_was(then: str) -> None:
    logger = AdapterLogger()
    above: Any = EveryNTimesteps(40, make_callbacks(logger)[0])
    with pytest.raises(KeyboardInterrupt):
        ppo().learn(256, callback=[above, Stop()])
    if then == "learn":
        ppo().learn(64, callback=above)
        assert [step for step, _ in logger.points("iterations")] == [64, 100, 164]
    logger.finish()
    assert HOOKS.isdisjoint(vars(above))


def test_two_runs_below_one_callback() -> None:
    first, second = AdapterLogger("step"), AdapterLogger("step")
    above = EveryNTimesteps(40, CallbackList([*make_callbacks(first), *make_callbacks(second)]))
    for _ in range(2):
        ppo().learn(64, callback=above)
    assert logged(first) == logged(second)
    # An episode's end and an update each: the steps between have nothing new.
    assert [step for step, _ in first.points("timesteps")] == [40, 64, 104, 128]
