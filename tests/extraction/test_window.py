from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_logging.extraction import Window
from rl_logging.extraction.window import reduction


@pytest.mark.parametrize(
    ("native", "how"),
    [
        ("Reward / Total reward (min)", "min"),
        ("Reward / Total reward (max)", "max"),
        ("Episode / Total timesteps (mean)", "mean"),
        ("train/n_updates", "last"),
        ("train/learning_rate", "last"),
        ("Learning / Learning rate", "last"),
        ("Learning / Learning rate (agent_0)", "last"),
        ("Exploration / Exploration epsilon", "last"),
        ("time/total_timesteps", "last"),
        ("time/iterations", "last"),
        ("time/fps", "last"),
        ("rollout/exploration_rate", "last"),
        ("rollout/ep_rew_mean", "last"),
        ("train/clip_range", "last"),
        ("train/policy_gradient_loss", "mean"),
        ("train/clip_fraction", "mean"),
        ("Loss / Policy loss", "mean"),
    ],
)
def test_reduction(native: str, how: str) -> None:
    assert reduction(native) == how


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_each_way_of_reducing(values: list[float]) -> None:
    window = Window()
    for value in values:
        window.add("a", value)
        window.add("a (min)", value)
        window.add("a (max)", value)
        window.add("n_updates", value)
        window.add("given", value, "max")
    reduced = window.drain()
    assert reduced == {
        "a": pytest.approx(statistics.fmean(values), abs=1e-6),
        "a (min)": min(values),
        "a (max)": max(values),
        "n_updates": values[-1],
        "given": max(values),
    }
    assert list(reduced) == ["a", "a (min)", "a (max)", "n_updates", "given"]


def test_draining_begins_anew() -> None:
    window = Window()
    assert len(window) == 0
    window.add("a", 1.0)
    assert len(window) == 1
    assert window.drain() == {"a": 1.0}
    window.add("a", 3.0)
    assert window.drain() == {"a": 3.0}
    assert window.drain() == {}


@pytest.mark.parametrize("values", [[math.nan, 1.0], [1.0, math.nan, 2.0], [1.0, math.nan]])
@pytest.mark.parametrize("how", ["mean", "min", "max"])
def test_nan_propagates(values: list[float], how: str) -> None:
    window = Window()
    for value in values:
        window.add("a", value, how)
    assert math.isnan(window.drain()["a"])


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match="median"):
        Window().add("a", 1.0, "median")
