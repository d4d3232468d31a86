from __future__ import annotations

import gc

import pytest

from rl_logging.bundle.destination import DestinationState
from rl_logging.delivery import garbage


def test_what_an_open_sink_brought_is_spared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(gc, "freeze", lambda: done.append("freeze"))
    monkeypatch.setattr(garbage, "_spared", set())
    state = DestinationState(sink="memory", destination="a test", phase="opening")
    garbage.spare(state)
    assert done == []
    state.phase = "delivering"
    garbage.spare(state)
    garbage.spare(state)
    assert done == ["collect", "freeze"]
    garbage.spare(DestinationState(sink="another", destination="a test", phase="delivering"))
    assert done == ["collect", "freeze"] * 2
