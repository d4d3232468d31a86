from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_logging.media import slug


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("best_model", "best_model"),
        ("eval/episode reward", "eval-episode-reward"),
        ("a//b", "a-b"),
        ("v1.2", "v1.2"),
        (".hidden", "hidden"),
        ("../../etc/passwd", "etc-passwd"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
        ("com1", "_com1"),
        ("console", "console"),
        ("x" * 200, "x" * 80),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_names_with_nothing_to_keep_stay_apart() -> None:
    assert slug("奖励") != slug("损失")
    assert {slug(name)[:2] for name in ("奖励", "", ".", "..", "/", "---", "\udc80")} == {"n-"}


@given(st.text())
def test_any_name_is_a_safe_file_name_and_stays_the_same_when_slugged_again(name: str) -> None:
    safe = slug(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}", safe)
    assert not safe.endswith((".", "-"))
    assert slug(safe) == safe
