from __future__ import annotations

import re

import pytest
from mlflow.utils.validation import _validate_metric_name

from rl_logging_mlflow.names import NameTable, clean_image_key, clean_key, clean_path
from tests.support.mlflow_driver import ListLedger

LEGAL = ["loss", "train/loss", "Loss / Policy loss", "a.b-c_d:e", "größe", " ", "eval/mean reward"]
CLEANED = {
    "Reward / Total reward (mean)": "Reward / Total reward mean",
    "Stats / Algorithm update time (ms)": "Stats / Algorithm update time ms",
    "loss[0]": "loss_0",
    "acc@1": "acc_1",
    "a//b": "a/b",
    "/a": "a",
    "a/": "a",
    "../a": "_/a",
    "..a": "_a",
    "a/./b": "a/_/b",
    ".": "_",
    "": "_",
    "(%)": "_",
    "win%": "win",
    "a\nb": "a_b",
    "a\n": "a",
    "x→y": "x_y",
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal_names_stay(name: str) -> None:
    _validate_metric_name(name)
    assert clean_key(name) == name


@pytest.mark.parametrize(("name", "cleaned"), CLEANED.items())
def test_illegal_names_become_legal(name: str, cleaned: str) -> None:
    assert clean_key(name) == cleaned
    _validate_metric_name(clean_key(name))


def test_long_names_end_in_a_hash_and_differ() -> None:
    first, second = clean_key("x" * 300 + "a"), clean_key("x" * 300 + "b")
    assert len(first) == len(second) == 250
    assert first != second
    assert clean_key("x" * 250) == "x" * 250


@pytest.mark.parametrize("name", ["state", "eval/frame 1", "größe", "画像", "a:b", "x" * 400, "a#b/c%d"])
def test_image_keys_follow_mlflows_narrower_rule(name: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_\-./ ]{1,120}", clean_image_key(name))


def test_paths_hold_nothing_a_url_would_take_apart() -> None:
    assert clean_path("a#b/100%/c?d.pdf") == "a_b/100/c_d.pdf"
    assert clean_path("models/best/step_10") == "models/best/step_10"


def test_names_that_clean_to_one_do_not_share_it() -> None:
    ledger = ListLedger()
    table = NameTable(clean_key, ledger, {})
    assert table.add(["loss(a)", "loss_a", "loss[a]"])
    assert table["loss_a"] == "loss_a"
    stored = {table["loss(a)"], table["loss[a]"]}
    assert len(stored) == 2
    assert all(re.fullmatch(r"loss_a-[0-9a-f]{8}", name) for name in stored)
    assert {name for name, _ in ledger.names} == {"loss(a)", "loss[a]"}


def test_a_name_keeps_what_it_got_before_a_restart() -> None:
    first = NameTable(clean_key, ListLedger(), {})
    first.add(["win%"])
    again = NameTable(clean_key, ListLedger(), dict(first.renamed), taken=["win"])
    # The plain name comes after the restart: "win" belongs to "win%" by then, and must not get a second owner.
    again.add(["win", "win%"])
    assert again["win%"] == "win"
    assert re.fullmatch(r"win-[0-9a-f]{8}", again["win"])


def test_a_name_the_store_has_is_taken() -> None:
    table = NameTable(clean_key, ListLedger(), {}, taken=["win"])
    table.add(["win%", "win"])
    assert table["win"] == "win"
    assert table["win%"] != "win"
