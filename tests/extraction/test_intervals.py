from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rl_logging.extraction import Interval


@pytest.mark.parametrize(
    ("given", "kind", "every"),
    [
        ("framework", "framework", None),
        (" Rollout ", "rollout", None),
        ("STEP", "steps", 1),
        ("balanced", "steps", 10),
        (25, "steps", 25),
        (" 25 ", "steps", 25),
        (np.int64(3), "steps", 3),
    ],
)
def test_parse(given: Any, kind: str, every: int | None) -> None:
    interval = Interval.parse(given)
    assert (interval.kind, interval.every) == (kind, every)


@pytest.mark.parametrize("given", ["often", "", "0", "-1", "1.5", 0, -1, 1.5, True, None])
def test_what_it_may_be_is_named(given: Any) -> None:
    with pytest.raises(ValueError, match=r"interval: .* is not one of framework, step, balanced, rollout, or a number"):
        Interval.parse(given)


def test_due() -> None:
    assert [step for step in range(1, 25) if Interval.parse("balanced").due(step)] == [10, 20]
    assert not Interval.parse("rollout").due(10)
