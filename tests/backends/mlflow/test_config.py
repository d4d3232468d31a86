from __future__ import annotations

from typing import Any

import pytest
import yaml

from rl_logging.records import Config
from tests.support.mlflow_driver import CREATED, Bench


def config(seq: int, **values: Any) -> Config:
    return Config(seq=seq, time=CREATED + seq, values=values)


def test_params_are_flat_and_the_file_is_whole(bench: Bench) -> None:
    values = {
        "ppo": {"lr": 3e-4, "net": [64, 64], "schedule": {}, "clip": None},
        "seed": 7,
        "cuda": True,
        "name": "größe",
        "empty": "",
        "a(b)": 1,
    }
    bench.deliver([config(1, **values)])
    assert bench.run().data.params == {
        "ppo/lr": "0.0003",
        "ppo/net": "[64, 64]",
        "ppo/schedule": "{}",
        "ppo/clip": "None",
        "seed": "7",
        "cuda": "True",
        "name": "größe",
        "empty": "",
        "a_b": "1",
    }
    assert yaml.safe_load(bench.text("config.yaml")) == values
    assert ("a(b)", "a_b") in bench.ledger.names


def test_later_parts_add_and_changes_become_tags(bench: Bench) -> None:
    sink = bench.open()
    sink.write([config(1, a={"x": 1, "y": 2}), config(2, a={"z": 3})])
    assert bench.ledger.warnings == []
    sink.write([config(3, a={"x": 10})])
    sink.close("finished")
    run = bench.run()
    assert run.data.params == {"a/x": "1", "a/y": "2", "a/z": "3"}
    assert run.data.tags["config/a/x"] == "10"
    assert yaml.safe_load(bench.text("config.yaml")) == {"a": {"x": 10, "y": 2, "z": 3}}
    assert len(bench.ledger.warnings) == 1
    assert "a/x" in bench.ledger.warnings[0]


def test_a_value_that_changes_back_is_not_left_as_the_one_between(bench: Bench) -> None:
    bench.deliver([config(1, a=1), config(2, a=2), config(3, a=1)])
    assert bench.run().data.tags["config/a"] == "1"


def test_long_values_are_cut_in_the_table_alone(bench: Bench) -> None:
    bench.deliver([config(1, text="ä" * 7000, keys={f"k{i}": "ü" * 5900 for i in range(60)})])
    params = bench.run().data.params
    assert params["text"] == "ä" * 6000
    assert params["keys/k59"] == "ü" * 5900
    assert yaml.safe_load(bench.text("config.yaml"))["text"] == "ä" * 7000
    assert [name for name, _ in bench.ledger.cut] == ["text"]


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_a_repeat_after_a_crash_changes_nothing(bench: Bench, first: int) -> None:
    records = [config(1, a=1, b="x" * 6500), config(2, a=2), config(3, c=3)]
    bench.deliver(records, status=None)
    before = bench.run().data
    sink = bench.open()
    sink.write([*records[first:], config(4, d=4)])
    sink.close("finished")
    after = bench.run().data
    assert after.params == {**before.params, "d": "4"}
    assert after.tags["config/a"] == "2"
    assert yaml.safe_load(bench.text("config.yaml")) == {"a": 2, "b": "x" * 6500, "c": 3, "d": 4}


def test_a_crash_between_the_params_and_the_note_of_them(bench: Bench) -> None:
    record = config(1, a=1)
    bench.deliver([record], status=None)
    for kept in (bench.run_dir / "sinks" / "mlflow").iterdir():
        kept.unlink()
    bench.deliver([record])
    assert bench.run().data.params == {"a": "1"}
    assert bench.ledger.warnings == []
