"""The user's own names, and where each metric of a run comes from."""

from __future__ import annotations

from typing import Any

import pytest

from rl_logging.extraction import NameTable, Origin, Rename
from rl_logging.testing import RecordingLogger

TABLE = NameTable(
    {"Loss / Policy": "policy_loss", "Loss / Other": "policy_loss", "Loss / Entropy": Rename("entropy", -1.0)},
    lambda native: native.replace(" / ", "/"),
)


def recorded(aliases: dict[str, str] | None, **settings: Any) -> RecordingLogger:
    return RecordingLogger({"rl_logging": {"aliases": aliases, **settings}})


def test_an_alias_goes_before_the_canonical_and_the_cleaned_name() -> None:
    logger = recorded({"Info / my_reward": "reward/mine", "Loss / Policy": "pi"})
    logger.pipeline(TABLE).log({"Info / my_reward": 1.0, "Loss / Policy": 2.0, "Info / other": 3.0}, 1)
    assert logger.metrics == [{"reward/mine": 1.0, "pi": 2.0, "Info/other": 3.0}]


def test_an_alias_of_a_native_name_has_its_value_and_one_of_a_canonical_name_has_that_ones() -> None:
    native = recorded({"Loss / Entropy": "entropy_loss"})
    native.pipeline(TABLE).log({"Loss / Entropy": -2.0}, 1)
    assert native.metrics == [{"entropy_loss": -2.0}]
    canonical = recorded({"entropy": "H", "Info/x": "x"})
    canonical.pipeline(TABLE).log({"Loss / Entropy": [-1.0, -3.0], "Info / x": 1.0}, 1)
    assert canonical.metrics == [{"H/mean": 2.0, "H/std": 1.0, "H/min": 1.0, "H/max": 3.0, "x": 1.0}]


def test_the_adapters_own_figures_have_aliases_too() -> None:
    logger = recorded({"grad_norm": "debug/norm", "eval/success_rate": "eval/won"})
    pipeline = logger.pipeline(TABLE)
    pipeline.canonical({"grad_norm": 1.0, "eval/grad_norm": 2.0, "eval/success_rate": 3.0, "fps": 4.0}, 1)
    assert logger.metrics == [{"debug/norm": 1.0, "eval/debug/norm": 2.0, "eval/won": 3.0, "fps": 4.0}]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("canonical", {"eval/pi": 1.0, "eval/entropy": 2.0}),
        ("native", {"eval/pi": 1.0, "eval/Loss / Entropy": -2.0}),
        ("both", {"eval/pi": 1.0, "eval/Loss / Policy": 1.0, "eval/entropy": 2.0, "eval/Loss / Entropy": -2.0}),
    ],
)
def test_an_alias_holds_whatever_names_are_asked_for(names: str, expected: dict[str, float]) -> None:
    logger = recorded({"Loss / Policy": "pi"}, names=names)
    logger.pipeline(TABLE).log({"Loss / Policy": 1.0, "Loss / Entropy": -2.0}, 1, prefix="eval/")
    assert logger.metrics == [expected]


def test_an_alias_that_matched_nothing_is_told_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    logger = recorded({"Loss / Policy": "pi", "entropy": "H", "fps": "speed", "Loss / Plicy": "typo", "episode": "e"})
    pipeline = logger.pipeline(TABLE)
    pipeline.log({"Loss / Policy": 1.0, "Loss / Entropy": -2.0}, 1)
    pipeline.canonical({"fps": 3.0}, 1)
    assert not caplog.messages
    logger.finish()
    assert caplog.messages == ["rl_logging.aliases: no adapter logged a metric called 'Loss / Plicy', 'episode'"]


def test_an_alias_that_is_another_metrics_name_has_it() -> None:
    logger = recorded({"Info / x": "policy_loss", "Info / y": "fps"})
    pipeline = logger.pipeline(TABLE)
    pipeline.log({"Loss / Policy": 1.0, "Info / x": 2.0}, 1)
    pipeline.canonical({"fps": 3.0, "eval/fps": 4.0}, 2)
    assert logger.metrics == [{"Loss/Policy": 1.0, "policy_loss": 2.0}, {"fps.2": 3.0, "eval/fps.2": 4.0}]
    assert len(logger.warnings) == 3
    assert "'Info / x' and 'Loss / Policy' are both 'policy_loss'" in logger.warnings[0]
    assert "rl_logging.aliases" in logger.warnings[1]


def test_of_two_with_one_alias_the_first_has_it() -> None:
    logger = recorded({"a": "x", "b": "x"})
    logger.pipeline(TABLE).log({"b": 1.0, "a": 2.0}, 1)
    assert logger.metrics == [{"x": 1.0, "a": 2.0}]
    assert len(logger.warnings) == 1


@pytest.mark.parametrize("entry", ["pi", "Loss / Policy", "policy_loss"])
def test_the_filter_knows_all_three_names(entry: str) -> None:
    for alias in ({"Loss / Policy": "pi"}, {"policy_loss": "pi"}):
        logger = recorded(alias, metric_filter=[entry])
        pipeline = logger.pipeline(TABLE)
        pipeline.record("Loss / Policy", 1.0)
        pipeline.record("Loss / Entropy", 2.0)
        pipeline.emit(1)
        assert logger.metrics == [{"pi": 1.0}]


def test_log_metrics_never_renames() -> None:
    logger = recorded({"a": "b"})
    logger.log_metrics({"a": 1.0})
    assert logger.metrics == [{"a": 1.0}]


def test_origins_name_the_native_and_the_canonical_name_of_what_was_logged() -> None:
    logger = recorded({"Info / x": "mine"}, metric_filter=["!Info / hidden", "!kl_divergence"])
    pipeline = logger.pipeline(TABLE)
    pipeline.log({"Loss / Entropy": [1.0, 2.0], "Info / x": 1.0, "Info / y": 1.0, "Info / hidden": 1.0}, 1)
    pipeline.log({"Loss / Policy": 1.0, "Loss / Other": 1.0}, 1, prefix="eval/")
    pipeline.canonical({"fps": 1.0, "kl_divergence": 1.0}, 1)
    assert pipeline.origins() == {
        "entropy/mean": Origin("Loss / Entropy/mean", "entropy/mean", -1.0),
        "entropy/std": Origin("Loss / Entropy/std", "entropy/std", 1.0),
        "entropy/max": Origin("Loss / Entropy/min", "entropy/max", -1.0),
        "entropy/min": Origin("Loss / Entropy/max", "entropy/min", -1.0),
        "mine": Origin("Info / x", "Info/x"),
        "Info/y": Origin("Info / y", "Info/y"),
        "eval/policy_loss": Origin("eval/Loss / Policy", "eval/policy_loss"),
        "eval/Loss/Other": Origin("eval/Loss / Other", "eval/policy_loss"),
        "fps": Origin(None, "fps"),
    }
    assert set(pipeline.origins()) == set(logger.names)
