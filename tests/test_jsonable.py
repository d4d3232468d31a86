from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import enum
import functools
import json
import math
import pathlib
import types
from typing import Any, NamedTuple

import gymnasium as gym
import msgspec
import numpy as np
import omegaconf
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_logging.jsonable import json_safe


class Colour(enum.Enum):
    RED = "red"
    TUPLE = (1, 2)


@dataclasses.dataclass
class Inner:
    lr: float = 0.1
    act: Any = torch.nn.ReLU


@dataclasses.dataclass
class Outer:
    inner: Inner = dataclasses.field(default_factory=Inner)
    path: pathlib.Path = pathlib.Path("a/b")


class Point(NamedTuple):
    x: int
    y: float


class Struct(msgspec.Struct):
    a: int = 1


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class HostileDict(dict):  # type: ignore[type-arg]
    def __getitem__(self, key: object) -> object:
        raise RuntimeError("no")


class Plain:
    pass


def function() -> None: ...


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (2**64 - 1, 2**64 - 1),
        (2**64, "0x10000000000000000"),
        (-(2**63) - 1, "-0x8000000000000001"),
        (math.inf, math.inf),
        ("x", "x"),
        ("bad\udc80name", "bad\\udc80name"),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.longdouble(0.5), 0.5),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.zeros((100, 100), np.float32), "<ndarray of shape (100, 100), float32>"),
        (torch.tensor(2.5, requires_grad=True), 2.5),
        (torch.tensor([1, 2]), [1, 2]),
        (torch.zeros(50, 50), "<Tensor of shape (50, 50), torch.float32>"),
        (torch.float32, "torch.float32"),
        (torch.device("cpu"), "device(type='cpu')"),
        (torch.Size([2, 3]), [2, 3]),
        (pathlib.Path("a/b"), "a/b"),
        (Colour.RED, "red"),
        (Colour.TUPLE, "TUPLE"),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ((1, [2, (3,)]), [1, [2, [3]]]),
        (collections.deque([1, 2]), [1, 2]),
        (range(3), "range(0, 3)"),
        (Outer(), {"inner": {"lr": 0.1, "act": "torch.nn.modules.activation.ReLU"}, "path": "a/b"}),
        (Outer, "tests.test_jsonable.Outer"),
        (dict, "dict"),
        (Point(1, 2.0), {"x": 1, "y": 2.0}),
        (Struct(), {"a": 1}),
        (argparse.Namespace(a=1, b=[2]), {"a": 1, "b": [2]}),
        (types.SimpleNamespace(a=1), {"a": 1}),
        (omegaconf.OmegaConf.create({"a": {"b": [1, "${a.c}"], "c": 5}}), {"a": {"b": [1, 5], "c": 5}}),
        (gym.spaces.Discrete(3), "Discrete(3)"),
        (gym.spaces.Dict(a=gym.spaces.Discrete(2)), "Dict('a': Discrete(2))"),
        (gym.spaces.Tuple([gym.spaces.Discrete(2)]), "Tuple(Discrete(2))"),
        (function, "<function function>"),
        (lambda: 0, "<function <lambda>>"),
        (len, "<function len>"),
        (functools.partial(function), "functools.partial(<function function>)"),
        (Plain(), "<tests.test_jsonable.Plain object>"),
        (Hostile(), "<Hostile>"),
        ([Hostile(), 1], ["<Hostile>", 1]),
        (math, "<module math>"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (b"ab", "b'ab'"),
        (1 + 2j, "(1+2j)"),
        ({1: "a", None: "b", Colour.RED: "c", (1, 2): "d", 1.5: "e"},
         {"1": "a", "None": "b", "RED": "c", "(1, 2)": "d", "1.5": "e"}),
        ({"1": "a", 1: "b"}, {"1": "a", "1 (int)": "b"}),
        (HostileDict(a=1), {"a": "<RuntimeError>"}),
    ],
)  # fmt: skip
def test_values(value: object, expected: object) -> None:
    got = json_safe(value)
    if isinstance(expected, str):
        assert isinstance(got, str)
        got = got.replace(__name__, "tests.test_jsonable")
    assert got == expected
    assert type(got) is type(expected)


def test_nan_stays_a_float() -> None:
    got = json_safe({"a": float("nan"), "b": np.float32("nan")})
    assert isinstance(got, dict)
    assert all(math.isnan(value) for value in got.values())


def test_an_interpolation_that_does_not_resolve_spoils_only_itself() -> None:
    config = omegaconf.OmegaConf.create({"a": "${nowhere}", "b": "???", "c": 1})
    assert json_safe(config) == {"a": "<InterpolationKeyError>", "b": "<MissingMandatoryValue>", "c": 1}


def test_what_contains_itself_is_cut() -> None:
    value: dict[str, Any] = {"a": 1}
    value["self"] = [value]
    assert json_safe(value) == {"a": 1, "self": ["…"]}


def test_the_same_thing_twice_is_no_cycle() -> None:
    shared = {"a": 1}
    assert json_safe([shared, shared]) == [{"a": 1}, {"a": 1}]


def test_deep_nesting_is_cut() -> None:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    text = json.dumps(json_safe(value))
    assert text.count("[") == 33


def test_what_would_take_for_ever_is_cut() -> None:
    value: Any = [1]
    for _ in range(30):
        value = [value, value]  # two to the thirty values, in thirty lists
    text = json.dumps(json_safe(value))
    assert len(text) < 2_000_000
    assert len(json.dumps(json_safe(range(10)))) < 50
    listed = json_safe(list(range(200_000)))
    assert isinstance(listed, list)
    assert len(listed) < 110_000
    assert listed[-1] == "…"


def test_long_text_is_kept_but_a_long_repr_is_not() -> None:
    assert json_safe("x" * 100_000) == "x" * 100_000
    short = json_safe(gym.spaces.Dict({f"key{number}": gym.spaces.Discrete(3) for number in range(1000)}))
    assert isinstance(short, str)
    assert len(short) == 1001


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary(max_size=8)
    | st.complex_numbers()
    | st.builds(Plain)
    | st.builds(Hostile)
    | st.sampled_from([Colour.RED, function, Outer, Outer(), np.float64(1), np.zeros(2), gym.spaces.Discrete(2)]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=()), max_size=4) | st.integers() | st.none(), inner)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers() | st.text(max_size=3))
    ),
    max_leaves=20,
)


@given(_anything)
def test_anything_can_be_written_and_read_again(value: Any) -> None:
    safe = json_safe(value)
    assert repr(msgspec.msgpack.decode(msgspec.msgpack.encode(safe))) == repr(safe)
    assert repr(json.loads(json.dumps(safe))) == repr(safe)
    assert " at 0x" not in json.dumps(safe) or " at 0x" in str(value)
    assert repr(json_safe(safe)) == repr(safe)
