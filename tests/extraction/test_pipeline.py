from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rl_logging.extraction import Interval, MetricFilter, NameTable, Pipeline, Rename
from rl_logging.testing import RecordingLogger


class Log:
    def __init__(self) -> None:
        self.calls: list[tuple[int | None, dict[str, float]]] = []
        self.told: list[str] = []

    def pipeline(self, names: Any = "canonical", entries: list[str] | None = None) -> Pipeline:
        self.filter = MetricFilter(entries)
        return Pipeline(
            lambda values, step: self.calls.append((step, values)),
            NameTable(
                {
                    "train/loss": "policy_loss",
                    "train/other_loss": "policy_loss",
                    "train/entropy_loss": Rename("entropy", -1.0),
                },
                lambda native: native.removeprefix("train/"),
            ),
            names=names,
            metric_filter=self.filter,
            interval=Interval.parse("framework"),
            warn=lambda key, message: self.told.append(message),
        )


def test_a_window_becomes_one_call() -> None:
    log = Log()
    pipeline = log.pipeline()
    pipeline.emit(0)
    pipeline.record("train/loss", 1.0)
    pipeline.record("train/loss", torch.tensor(3.0))
    pipeline.record("train/entropy_loss", -2)
    pipeline.record("train/std", 5.0, "min")
    pipeline.record("train/std", 4.0, "min")
    pipeline.record("train/text", "x")
    pipeline.emit(7, prefix="eval/")
    pipeline.emit(8)
    assert log.calls == [(7, {"eval/policy_loss": 2.0, "eval/entropy": 2.0, "eval/std": 4.0})]
    assert len(log.told) == 1


def test_log_goes_past_the_window() -> None:
    log = Log()
    pipeline = log.pipeline()
    pipeline.record("train/loss", 1.0)
    pipeline.log({"train/entropy_loss": 3.0, "train/none": None}, 1)
    pipeline.emit(2)
    assert log.calls == [(1, {"entropy": -3.0}), (2, {"policy_loss": 1.0})]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("canonical", {"entropy": 2.0, "x": 1.0}),
        ("native", {"train/entropy_loss": -2.0, "train/x": 1.0}),
        ("both", {"entropy": 2.0, "train/entropy_loss": -2.0, "x": 1.0, "train/x": 1.0}),
    ],
)
def test_names(names: str, expected: dict[str, float]) -> None:
    log = Log()
    log.pipeline(names).log({"train/entropy_loss": -2.0, "train/x": 1.0}, 1)
    assert log.calls == [(1, expected)]


@pytest.mark.parametrize("windowed", [True, False])
def test_aggregates_of_a_negated_value(windowed: bool) -> None:
    log = Log()
    pipeline = log.pipeline("both")
    if windowed:
        pipeline.record("train/entropy_loss", [1.0, 3.0])
        pipeline.record("train/entropy_loss", [1.0, 3.0])
        pipeline.emit(1)
    else:
        pipeline.log({"train/entropy_loss": [1.0, 3.0]}, 1)
    native = {f"train/entropy_loss/{part}": x for part, x in (("mean", 2.0), ("std", 1.0), ("min", 1.0), ("max", 3.0))}
    canonical = {"entropy/mean": -2.0, "entropy/std": 1.0, "entropy/min": -3.0, "entropy/max": -1.0}
    assert log.calls == [(1, {**native, **canonical})]


def test_windowed_aggregates_keep_their_extremes() -> None:
    log = Log()
    pipeline = log.pipeline()
    pipeline.record("x", [1.0, 3.0])
    pipeline.record("x", [0.0, 10.0])
    pipeline.emit(1)
    assert log.calls[0][1] == {"x/mean": 3.5, "x/std": 3.0, "x/min": 0.0, "x/max": 10.0}


def test_the_first_of_two_for_one_name_has_it() -> None:
    log = Log()
    pipeline = log.pipeline()
    for step in (1, 2):
        pipeline.log({"train/other_loss": 1.0, "train/loss": 2.0}, step)
    assert log.calls == [(step, {"policy_loss": 1.0, "loss": 2.0}) for step in (1, 2)]
    assert len(log.told) == 1
    assert "the second is logged as 'loss'" in log.told[0]


def test_cleaned_names_do_not_fall_together() -> None:
    log = Log()
    log.pipeline().log({"train/loss": 1.0, "policy_loss": 2.0, "train/policy_loss": 3.0}, 1)
    assert log.calls == [(1, {"policy_loss": 1.0, "policy_loss.2": 2.0, "train/policy_loss": 3.0})]


def test_the_filter_knows_canonical_and_native_names() -> None:
    log = Log()
    pipeline = log.pipeline(entries=["train/loss", "entropy", "nothing"])
    pipeline.log({"train/loss": 1.0, "train/entropy_loss": [1.0, 2.0], "train/x": 1.0}, 1)
    pipeline.canonical({"fps": 1.0, "entropy": 5.0}, 2)
    pipeline.canonical({"fps": 1.0}, 3)
    assert set(log.calls[0][1]) == {"policy_loss", *(f"entropy/{part}" for part in ("mean", "std", "min", "max"))}
    assert log.calls[1:] == [(2, {"entropy": 5.0})]
    assert log.filter.unmatched() == ["nothing"]


def test_an_entry_for_an_evaluation_reaches_the_window() -> None:
    log = Log()
    pipeline = log.pipeline(entries=["eval/policy_loss"])
    pipeline.record("train/loss", 1.0)
    pipeline.emit(1)
    assert log.calls == []
    assert log.filter.unmatched() == ["eval/policy_loss"]
    pipeline.record("train/loss", 1.0)
    pipeline.emit(2, prefix="eval/")
    assert log.calls == [(2, {"eval/policy_loss": 1.0})]


class Counted:
    """A value on a device, as it were: what it costs is the asking."""

    asked = 0

    def item(self) -> float:
        type(self).asked += 1
        return 1.0


@pytest.fixture
def counted() -> type[Counted]:
    class Own(Counted):
        pass

    return Own


@pytest.mark.parametrize(
    ("entries", "asked"),
    [(None, 5), (["!costly"], 0), (["other"], 0), (["costly"], 5), (["costly/max"], 5), (["eval/costly"], 3)],
)
def test_what_is_filtered_is_not_converted(counted: type[Counted], entries: list[str] | None, asked: int) -> None:
    log = Log()
    pipeline = log.pipeline(entries=entries)
    for _ in range(2):
        pipeline.record("costly", counted())
    pipeline.record("group", {"costly": counted()})
    pipeline.log({"costly": counted(), "group": {"costly": counted()}}, 1)
    pipeline.emit(2)
    assert counted.asked == asked
    assert log.told == []


@pytest.mark.parametrize(("entries", "asked"), [(None, 3), (["!costly"], 0), (["other"], 0), (["costly/max"], 3)])
def test_log_metrics_converts_nothing_that_is_filtered(
    counted: type[Counted], entries: list[str] | None, asked: int
) -> None:
    logger = RecordingLogger({"rl_logging": {"metric_filter": entries}})
    logger.log_metrics({"costly": counted(), "other": 1.0})
    logger.log_metrics({"a": {"costly": counted()}, "b": {"c": {"costly": counted()}}})
    assert counted.asked == asked
    assert logger.warnings == []


def test_the_environments_own_figures_keep_their_names() -> None:
    log = Log()
    pipeline = log.pipeline()
    pipeline.record("Episode_Termination/time_out", torch.tensor(3))
    pipeline.record("Info / my_reward", np.float32(0.5))
    pipeline.record("episode", {"track_velocity": 0.25, "penalty": {"torque": torch.tensor([1.0])}})
    pipeline.emit(1)
    assert log.calls == [
        (
            1,
            {
                "Episode_Termination/time_out": 3.0,
                "Info / my_reward": 0.5,
                "episode/track_velocity": 0.25,
                "episode/penalty/torque": 1.0,
            },
        )
    ]


NESTED = {"a": {"b": {"c": {"d": 1.0}, "e": 2.0}, "f": 3.0}, "g": 4.0}


@pytest.mark.parametrize(
    ("depth", "adapters", "by_hand"),
    [
        (None, {"a/b/e", "a/f", "g"}, {"a/b/c/d", "a/b/e", "a/f", "g"}),
        (0, {"g"}, {"g"}),
        (1, {"a/f", "g"}, {"a/f", "g"}),
        (3, {"a/b/c/d", "a/b/e", "a/f", "g"}, {"a/b/c/d", "a/b/e", "a/f", "g"}),
    ],
)
def test_max_depth(depth: int | None, adapters: set[str], by_hand: set[str]) -> None:
    for names, way in ((adapters, "log"), (adapters, "record"), (by_hand, "log_metrics")):
        logger = RecordingLogger({"rl_logging": {"max_depth": depth}})
        pipeline = logger.pipeline(NameTable({}))
        for step in (1, 2):
            if way == "log":
                pipeline.log(NESTED, step)
            elif way == "record":
                for native, value in NESTED.items():
                    pipeline.record(native, value)
                pipeline.emit(step)
            else:
                logger.log_metrics(NESTED, step)
        assert set(logger.names) == names, way
        assert len(logger.warnings) == (len(names) < 4), way
        assert all("rl_logging.max_depth" in told for told in logger.warnings)


def test_mappings_are_named_and_filtered_by_what_they_hold() -> None:
    log = Log()
    pipeline = log.pipeline(entries=["policy_loss"])
    pipeline.record("train", {"loss": 1.0, "x": 2.0})
    pipeline.emit(1)
    pipeline.log({"train": {"loss": 3.0, "x": 2.0}}, 2)
    assert log.calls == [(1, {"policy_loss": 1.0}), (2, {"policy_loss": 3.0})]
