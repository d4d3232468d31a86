from __future__ import annotations

import math

import pytest

from rl_logging.records import Metrics
from rl_logging.sinks import RejectedError
from tests.support.mlflow_driver import CREATED, Bench

MS = 1_700_000_000_250


def points(count: int, first_seq: int = 1) -> list[Metrics]:
    def point(i: int) -> Metrics:
        values = {"a": float(i), "b": -1.0}
        return Metrics(seq=first_seq + i, time=CREATED + i / 1000, step=10 * (first_seq + i), values=values)

    return [point(i) for i in range(count)]


def test_every_point_with_its_step_and_time(bench: Bench) -> None:
    sink = bench.deliver(points(1200))
    assert sink.confirmed() == 1200
    assert bench.history("a") == [(10 * (i + 1), float(i), MS + i) for i in range(1200)]
    assert len(bench.history("b")) == 1200
    assert bench.run().info.status == "FINISHED"


def test_not_a_number_and_infinities(bench: Bench) -> None:
    bench.deliver([Metrics(seq=1, time=CREATED, step=1, values={"n": math.nan, "p": math.inf, "m": -math.inf})])
    assert math.isnan(bench.history("n")[0][1])
    assert bench.history("p")[0][1] == pytest.approx(1.797e308, rel=1e-3)
    assert bench.history("m")[0][1] == pytest.approx(-1.797e308, rel=1e-3)
    assert {name for name, _ in bench.ledger.cut} == {"p", "m"}


def test_equal_points_are_one_and_counted(bench: Bench) -> None:
    same = [Metrics(seq=seq, time=CREATED, step=1, values={"a": 1.0, "n": math.nan}) for seq in (1, 2)]
    sink = bench.open()
    sink.write(same)
    sink.write([Metrics(seq=3, time=CREATED + 1e-5, step=1, values={"a": 1.0})])
    assert bench.history("a") == [(1, 1.0, MS)]
    assert bench.ledger.merges == [2, 1]
    sink.close("finished")


def test_a_repeat_after_a_crash_stores_nothing_twice(bench: Bench) -> None:
    records = points(50)
    sink = bench.open()
    sink.write(records[:30])
    for first in (0, 20, 49):
        again = bench.open()
        again.write(records[first:])
    again.close("finished")
    assert len(bench.history("a")) == 50
    assert len(bench.history("b")) == 50


def test_a_batch_that_failed_half_way_may_come_again(bench: Bench) -> None:
    sink = bench.open()
    sink.write(points(10))
    sink.write(points(10) + points(5, first_seq=11))
    assert sink.confirmed() == 15
    assert len(bench.history("a")) == 15
    assert bench.ledger.merges == []
    sink.close("finished")


def test_names_are_cleaned_told_and_kept_over_a_restart(bench: Bench) -> None:
    values = {"Reward / Total reward (mean)": 1.0, "win%": 2.0, "win": 3.0, "x" * 300: 4.0}
    bench.deliver([Metrics(seq=1, time=CREATED, step=1, values=values)], status=None)
    again = bench.open()
    again.write([Metrics(seq=2, time=CREATED + 1, step=2, values=values)])
    again.close("finished")
    stored = dict(bench.ledger.names)
    assert stored["Reward / Total reward (mean)"] == "Reward / Total reward mean"
    assert "win" not in stored
    assert set(bench.run().data.metrics) == {"win", *stored.values()}
    assert [step for step, _, _ in bench.history(stored["win%"])] == [1, 2]
    assert [value for _, value, _ in bench.history("win")] == [3.0, 3.0]


def test_steps_without_end_and_without_number(bench: Bench) -> None:
    huge = Metrics(seq=2, time=CREATED, step=2**63, values={"a": 2.0})
    fine = [Metrics(seq=1, time=CREATED, step=None, values={"a": 1.0})]
    fine += [Metrics(seq=3, time=CREATED, step=-5, values={"a": 3.0})]
    sink = bench.open()
    with pytest.raises(RejectedError, match="64-bit") as caught:
        sink.write([fine[0], huge, fine[1]])
    assert caught.value.records == (huge,)
    assert sink.confirmed() == 3
    assert bench.history("a") == [(-5, 3.0, MS), (0, 1.0, MS)]
    sink.close("finished")


def test_a_refused_point_does_not_take_the_others_with_it(bench: Bench) -> None:
    records: list[Metrics] = points(200)
    # A time before 1970 is a thing MLflow refuses, with the whole request it comes in.
    poisoned = Metrics(seq=201, time=-5.0, step=7, values={"a": 1.0, "c": 2.0})
    sink = bench.open()
    with pytest.raises(RejectedError, match=r"metric 'a' at step 7.*imestamp") as caught:
        sink.write([*records[:120], poisoned, *records[120:]])
    assert caught.value.records == (poisoned,)
    assert len(bench.history("a")) == 200
    sink.close("finished")
