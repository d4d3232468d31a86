"""Every test here keeps W&B's folders to itself and has no credentials but those it sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wandb_server import API_KEY, WandbServer
from tests.support.wandb_sink import RecordingLedger, isolated, wandb_core_children


@pytest.fixture(autouse=True)
def wandb_environment(tmp_path: Path) -> Iterator[None]:
    with isolated(tmp_path):
        yield
    assert wandb_core_children() == []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", API_KEY)
        yield server


@pytest.fixture
def ledger() -> RecordingLedger:
    return RecordingLedger()
