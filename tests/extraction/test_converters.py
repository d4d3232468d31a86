"""Values of the user's own types, on both ways into a run: `log_metrics` and an adapter's pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from rl_logging import register_converter
from rl_logging.extraction import NameTable, converters, flatten
from rl_logging.testing import RecordingLogger


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converters, "_converters", {})
    monkeypatch.setattr(converters, "_known", {})


Way = Callable[[RecordingLogger, dict[str, Any]], None]


def by_hand(logger: RecordingLogger, metrics: dict[str, Any]) -> None:
    logger.log_metrics(metrics, step=1)


def by_pipeline(logger: RecordingLogger, metrics: dict[str, Any]) -> None:
    logger.pipeline(NameTable({})).log(metrics, 1)


def by_window(logger: RecordingLogger, metrics: dict[str, Any]) -> None:
    pipeline = logger.pipeline(NameTable({}))
    for name, value in metrics.items():
        pipeline.record(name, value)
    pipeline.emit(1)


ways = pytest.mark.parametrize("way", [by_hand, by_pipeline, by_window])


class Money:
    def __init__(self, amount: Any) -> None:
        self.amount = amount


class Coin(Money):
    pass


@ways
@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (2, {"m": 2.0}),
        (np.float32(0.5), {"m": 0.5}),
        (torch.tensor([1.0, 3.0]), {"m/mean": 2.0, "m/std": 1.0, "m/min": 1.0, "m/max": 3.0}),
        ({"a": 1, "b": {"c": np.array(2.0)}}, {"m/a": 1.0, "m/b/c": 2.0}),
        ({"inner": Money(3.0)}, {"m/inner": 3.0}),
        (None, {}),
    ],
)
def test_a_type_is_logged_as_its_converter_says(way: Way, amount: Any, expected: dict[str, float]) -> None:
    register_converter(Money, lambda money: money.amount)
    logger = RecordingLogger()
    way(logger, {"m": Coin(amount), "other": 1.0})
    assert logger.metrics == [{**expected, "other": 1.0}]
    assert logger.warnings == []


def test_the_nearest_class_counts_and_a_later_function_replaces_the_first() -> None:
    register_converter(Money, lambda money: 1.0)
    assert flatten({"m": Coin(0)}, pytest.fail) == {"m": 1.0}
    register_converter(Coin, lambda coin: 2.0)
    assert flatten({"m": Coin(0), "n": Money(0)}, pytest.fail) == {"m": 2.0, "n": 1.0}
    register_converter(Coin, lambda coin: 3.0)
    assert flatten({"m": Coin(0)}, pytest.fail) == {"m": 3.0}


def test_elements_of_a_sequence_are_converted_too() -> None:
    register_converter(Money, lambda money: money.amount)
    assert flatten({"m": [Money(1.0), Money([2.0, 3.0])]}, pytest.fail)["m/mean"] == 2.0


@pytest.mark.parametrize("value", [np.float32(0.5), torch.tensor(0.5), "pass"])
def test_it_goes_before_what_is_known_of_a_type(value: Any) -> None:
    flatten({"m": np.float32(0.5)}, pytest.fail)  # NumPy's types are remembered as plain numbers from then on
    register_converter(type(value), lambda own: 7)
    assert flatten({"m": value}, pytest.fail) == {"m": 7.0}
    assert flatten({"m": value, "n": 1}, pytest.fail) == {"m": 7.0, "n": 1.0}


@ways
def test_a_converter_that_raises_is_told_once_for_the_type_and_harms_nothing_else(way: Way) -> None:
    def fail(money: Money) -> float:
        raise ZeroDivisionError("no")

    register_converter(Money, fail)
    logger = RecordingLogger()
    for _ in range(2):
        way(logger, {"a": Money(1), "b": Money(2), "c": [Money(3)], "d": 4.0})
    assert logger.metrics == [{"d": 4.0}] * 2
    [told] = logger.warnings
    assert "'a'" in told
    assert "ZeroDivisionError: no" in told
    assert "Money" in told


def test_one_that_gives_itself_back_ends() -> None:
    register_converter(Money, lambda money: {"again": money})
    told: list[str] = []
    assert flatten({"m": Money(0), "n": 1.0}, lambda key, message: told.append(message)) == {"n": 1.0}
    assert "nested too deeply" in told[0]
    register_converter(Money, lambda money: money)
    told.clear()
    assert flatten({"m": Money(0), "n": 1.0}, lambda key, message: told.append(message)) == {"n": 1.0}
    assert len(told) == 1


@pytest.mark.parametrize(
    ("kind", "fn", "words"),
    [
        ("Money", float, "may be a class"),
        (float, float, "logged as they are"),
        (bool, float, "logged as they are"),
        (type(None), float, "logged as they are"),
        (Money, 3, "may be a callable"),
    ],
)
def test_what_cannot_be_registered_is_told_at_once(kind: Any, fn: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        register_converter(kind, fn)


def test_a_mapping_type_may_have_one() -> None:
    class Rewards(Mapping[str, float]):
        def __getitem__(self, key: str) -> float:
            return 1.0

        def __iter__(self) -> Any:
            return iter(["a", "b"])

        def __len__(self) -> int:
            return 2

    assert flatten({"r": Rewards()}, pytest.fail) == {"r/a": 1.0, "r/b": 1.0}
    register_converter(Rewards, lambda rewards: sum(rewards.values()))
    assert flatten({"r": Rewards()}, pytest.fail) == {"r": 2.0}
