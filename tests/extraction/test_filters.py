from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_logging.extraction import MetricFilter


@pytest.mark.parametrize("entries", [None, [], ()])
def test_without_entries_everything_is_allowed(entries: list[str] | None) -> None:
    metric_filter = MetricFilter(entries)
    assert metric_filter.allows("anything", "Any / thing")
    assert metric_filter.unmatched() == []


@pytest.mark.parametrize("name", ["g", "g/mean", "g/std", "g/min", "g/max", "eval/g", "eval/g/mean", "a/b/g"])
def test_a_base_name_is_all_of_its_metrics(name: str) -> None:
    assert MetricFilter(["g"]).allows(name)
    assert not MetricFilter(["!g"]).allows(name)


@pytest.mark.parametrize("name", ["gg", "g_mean", "g/other", "mean", "G", "g/mean/x"])
def test_a_base_name_is_nothing_else(name: str) -> None:
    assert not MetricFilter(["g"]).allows(name)
    assert MetricFilter(["!g"]).allows(name)


@pytest.mark.parametrize(
    ("entry", "name", "native", "allowed"),
    [
        ("eval/g", "eval/g/mean", None, True),
        ("eval/g", "g", None, False),
        ("eval/g/mean", "eval/g/mean", None, True),
        ("eval/g/mean", "eval/g/max", None, False),
        ("Loss / Policy loss", "policy_loss", "Loss / Policy loss", True),
        ("Loss/Policy loss", "policy_loss", "Loss / Policy loss", True),
        ("Policy loss", "policy_loss", "Loss / Policy loss", True),
        ("train/loss", "q_loss", "train/loss", True),
        ("loss", "q_loss", "train/loss", True),
        ("Reward / Total reward", "Reward/Total reward/mean", "Reward / Total reward (mean)", True),
        ("*_loss", "policy_loss", None, True),
        ("*_loss", "eval/policy_loss/mean", None, True),
        ("*_loss", "policy_loss_x", None, False),
        ("Loss / *", "policy_loss", "Loss / Policy loss", True),
        ("eval/*", "eval/g", None, True),
        ("eval/*", "g", None, False),
        ("a[x]", "a[x]", None, True),
        (" g ", "g", None, True),
    ],
)
def test_forms(entry: str, name: str, native: str | None, allowed: bool) -> None:
    names = (name,) if native is None else (name, native)
    assert MetricFilter([entry]).allows(*names) is allowed
    assert MetricFilter([f"!{entry}"]).allows(*names) is not allowed


def test_an_exclusion_wins() -> None:
    metric_filter = MetricFilter(["*_loss", "!value_loss"])
    assert metric_filter.allows("policy_loss")
    assert not metric_filter.allows("value_loss")
    assert not metric_filter.allows("fps")


def test_unmatched_names_what_matched_nothing_as_it_was_given() -> None:
    metric_filter = MetricFilter(["a", " !b ", "c*", "!d*"])
    assert not metric_filter.allows("x")
    assert metric_filter.unmatched() == ["a", "c*", " !b ", "!d*"]
    metric_filter.allows("a")
    metric_filter.allows("c2", "d1")
    assert metric_filter.unmatched() == [" !b "]


def test_a_value_is_wanted_where_anything_that_may_come_of_it_is() -> None:
    metric_filter = MetricFilter(["eval/g/max", "h", "!i*"])
    assert metric_filter.wants("g", prefixes=("", "eval/"))
    assert not metric_filter.wants("g")
    assert not metric_filter.wants("i", "h")
    assert metric_filter.unmatched() == ["eval/g/max"]  # nothing of that name has come yet
    assert MetricFilter(None).wants("anything")


@pytest.mark.parametrize("entry", ["", " ", "!", "! "])
def test_an_empty_entry_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="metric_filter"):
        MetricFilter([entry])


@given(st.lists(st.text(min_size=1).filter(lambda text: text.strip(" !\t\n"))), st.text(), st.text())
def test_any_entry_answers_the_same_twice(entries: list[str], name: str, native: str) -> None:
    try:
        metric_filter = MetricFilter(entries)
    except ValueError:
        return
    assert metric_filter.allows(name, native) is metric_filter.allows(name, native)
