from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rl_logging.extraction import Clock


def test_factor_and_initial_step() -> None:
    clock = Clock(factor=4, initial_step=100)
    assert [clock.at(step) for step in (1, 2, 2, 5)] == [104, 108, 108, 120]


def test_continue_goes_on_and_is_told() -> None:
    told: list[tuple[str, str]] = []
    clock = Clock(factor=2, warn=lambda key, message: told.append((key, message)))
    assert [clock.at(step) for step in (0, 50, 0, 10, 10, 5)] == [0, 100, 100, 120, 120, 130]
    assert {key for key, _ in told} == {"clock/step_reset"}
    assert "on_step_reset" in told[0][1]


def test_restart_goes_back() -> None:
    told: list[str] = []
    clock = Clock(on_step_reset="restart", initial_step=3, warn=lambda key, message: told.append(key))
    assert [clock.at(step) for step in (5, 0, 2)] == [8, 3, 5]
    assert told == []


@given(st.lists(st.integers(0, 1000)), st.integers(1, 8))
def test_it_never_goes_back(steps: list[int], factor: int) -> None:
    clock = Clock(factor=factor)
    stamped = [clock.at(step) for step in steps]
    assert stamped == sorted(stamped)
