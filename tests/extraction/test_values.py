from __future__ import annotations

import math
import statistics
import subprocess
import sys
from collections import OrderedDict, deque
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_logging.extraction import aggregate, flatten

finite = st.floats(-1e100, 1e100)


def flat(metrics: Any, **options: Any) -> tuple[dict[str, float], list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    return flatten(metrics, lambda key, message: told.append((key, message)), **options), told


def same(left: dict[str, float], right: dict[str, float]) -> bool:
    return left.keys() == right.keys() and all(
        type(left[key]) is float and (left[key] == right[key] or (math.isnan(left[key]) and math.isnan(right[key])))
        for key in left
    )


@given(st.dictionaries(st.text(min_size=1), st.floats(), max_size=8))
def test_floats_come_out_as_they_went_in_and_the_dict_is_a_new_one(metrics: dict[str, float]) -> None:
    values, told = flat(metrics)
    assert same(values, metrics)
    assert list(values) == list(metrics)
    assert values is not metrics
    assert told == []


class Item:
    def item(self) -> float:
        return 0.5


class ArrayLike:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array([1.0, 3.0], dtype=dtype)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (True, 1.0),
        (7, 7.0),
        (np.float64(0.25), 0.25),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.int64(3), 3.0),
        (np.bool_(True), 1.0),
        (np.longdouble(0.5), 0.5),
        (np.array(2.5), 2.5),
        (np.array([[4]]), 4.0),
        (torch.tensor(0.5), 0.5),
        (torch.tensor([[1.5]], requires_grad=True), 1.5),
        (torch.tensor(3, dtype=torch.int64), 3.0),
        (torch.tensor(True), 1.0),
        (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
        ([0.5], 0.5),
        (Decimal("0.5"), 0.5),
        (Fraction(1, 2), 0.5),
        (Item(), 0.5),
        (float("inf"), math.inf),
        (float("nan"), math.nan),
        (np.array(["x", 1.0], dtype=object)[1:], 1.0),
    ],
)
def test_one_value(value: Any, number: float) -> None:
    values, told = flat({"m": value})
    assert same(values, {"m": number})
    assert told == []


@pytest.mark.parametrize(
    "value",
    [
        [1, 3],
        (1.0, 3.0),
        [[1], [3.0]],
        [1, None, 3],
        {1, 3},
        deque([True, 3]),
        range(1, 4, 2),
        np.array([1, 3], dtype=np.uint8),
        np.array([[1], [3]], dtype=np.float16),
        np.array([1, 3], dtype=object),
        np.ma.masked_array([1, 99, 3], mask=[0, 1, 0]),
        [np.float32(1), np.int8(3)],
        torch.tensor([1.0, 3.0], requires_grad=True),
        torch.tensor([[1, 3]]),
        torch.tensor([1.0, 3.0], dtype=torch.bfloat16),
        [torch.tensor(1.0, requires_grad=True), torch.tensor([3.0])],
        [Decimal(1), Fraction(3)],
        ArrayLike(),
    ],
)
def test_several_elements_become_their_aggregates(value: Any) -> None:
    values, told = flat({"m": value})
    assert values == {"m/mean": 2.0, "m/std": 1.0, "m/min": 1.0, "m/max": 3.0}
    assert all(type(figure) is float for figure in values.values())
    assert told == []


@given(st.lists(finite, min_size=2, max_size=20))
def test_aggregates_agree_with_the_standard_library(elements: list[float]) -> None:
    values = aggregate("m", elements)
    scale = max(1.0, max(map(abs, elements)))
    assert values["m/mean"] == pytest.approx(statistics.fmean(elements), rel=1e-9, abs=1e-9 * scale)
    assert values["m/std"] == pytest.approx(statistics.pstdev(elements), rel=1e-6, abs=1e-6 * scale)
    assert (values["m/min"], values["m/max"]) == (min(elements), max(elements))


def test_a_nan_among_the_elements_is_in_all_aggregates() -> None:
    for elements in ([1.0, math.nan, 2.0], torch.tensor([1.0, math.nan]), np.array([math.nan, 1.0], np.float32)):
        assert all(math.isnan(figure) for figure in aggregate("m", elements).values())


def test_infinities_do_not_warn() -> None:
    values = aggregate("m", [math.inf, 1.0])
    assert values["m/max"] == math.inf
    assert math.isnan(values["m/std"])


def test_float32_is_summed_in_float64() -> None:
    elements = np.full(1_000_003, 0.1, dtype=np.float32)
    assert aggregate("m", elements)["m/mean"] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_nested_mappings_of_any_kind() -> None:
    values, told = flat({"a": {"b": OrderedDict(c=1), 2: MappingProxyType({"d": 2.0})}, "e": {}})
    assert values == {"a/b/c": 1.0, "a/2/d": 2.0}
    assert told == []


def test_none_is_skipped_and_said_nothing_of() -> None:
    assert flat({"a": None, "b": {"c": None}}) == ({}, [])


@pytest.mark.parametrize(
    "value",
    [
        "0.5",
        b"1",
        object(),
        1j,
        np.complex64(1j),
        np.array([1j, 2]),
        torch.tensor([1j, 2j]),
        torch.tensor(1j),
        ["a", 1],
        ["1", "2"],
        [{"a": 1}],
        np.array(["1", "2"]),
        np.array("2020-01-01", dtype="datetime64"),
        np.array([1, "x"], dtype=object),
        10**400,
        [10**400, 1],
        float,
        len,
    ],
)
def test_what_is_no_metric_is_told_by_key_and_type_and_the_rest_is_kept(value: Any) -> None:
    values, told = flat({"before": 1.0, "group": {"bad": value}, "after": 2.0})
    assert values == {"before": 1.0, "after": 2.0}
    [(key, message)] = told
    assert key == "group/bad"
    assert "'group/bad'" in message
    assert type(value).__name__ in message


@pytest.mark.parametrize("value", [[], np.zeros((0, 3)), torch.zeros(0), [None], [[]]])
def test_what_is_empty_is_skipped_and_told(value: Any) -> None:
    values, [(key, message)] = flat({"m": value, "n": 1})
    assert values == {"n": 1.0}
    assert key == "m"
    assert "without elements" in message


class Hostile:
    def __float__(self) -> float:
        raise ZeroDivisionError("no")


def test_a_conversion_that_raises_harms_no_other_value() -> None:
    values, [(key, message)] = flat({"bad": Hostile(), "good": 1.0})
    assert values == {"good": 1.0}
    assert key == "bad"
    assert "ZeroDivisionError" in message


def test_keys_that_are_no_strings() -> None:
    values, told = flat({1: 1.0, ("a", 2): 2.0, "": 3.0, "g": {"": 4.0}})
    assert values == {"1": 1.0, "('a', 2)": 2.0}
    assert len(told) == 2


def test_a_name_given_twice_is_told() -> None:
    values, told = flat({"a/b": 1.0, "a": {"b": 2.0}})
    assert values == {"a/b": 2.0}
    assert [key for key, _ in told] == ["a/b"]


def test_cycles_end() -> None:
    cyclic: dict[str, Any] = {"x": 1.0}
    cyclic["self"] = cyclic
    cyclic["other"] = {"back": cyclic, "y": 2.0}
    values, told = flat(cyclic)
    assert values == {"x": 1.0, "other/y": 2.0}
    assert {key for key, _ in told} == {"self", "other/back"}
    elements: list[Any] = [1.0]
    elements.append(elements)
    values, told = flat({"m": elements})
    assert values == {}
    assert "nested too deeply" in told[0][1]


def test_depth() -> None:
    deep: dict[str, Any] = {"leaf": 1.0}
    for _ in range(5000):
        deep = {"d": deep, "x": 1.0}
    values, told = flat(deep)
    assert len(values) == 33
    assert "too deeply" in told[0][1]
    values, told = flat({"a": {"b": {"c": 1.0}, "x": 2.0}}, max_depth=1)
    assert values == {"a/x": 2.0}
    assert [key for key, _ in told] == ["a/b"]


def test_no_mapping_at_all_raises() -> None:
    with pytest.raises(TypeError, match="a str, may be a mapping"):
        flat("text")


def test_aggregate_of_one_and_of_none() -> None:
    assert aggregate("m", [2]) == {"m": 2.0}
    assert aggregate("m", []) == {}
    with pytest.raises(TypeError, match="text"):
        aggregate("m", ["a"])


def test_nothing_heavy_is_imported() -> None:
    script = (
        "import sys; from rl_logging.extraction import flatten; flatten({'a': 1, 'b': {'c': 2.0}}, print);"
        "print(sorted({'numpy', 'torch', 'stable_baselines3', 'skrl', 'mlflow', 'wandb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=180, check=True)
    assert done.stdout.strip() == "[]"
