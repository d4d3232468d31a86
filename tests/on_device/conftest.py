"""What the tests of values on a device share: a stand-in for CUDA, and a logger that delivers later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rl_logging import ExperimentLogger
from tests.support.cuda_stand_in import Stream, stand_in


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    monkeypatch.setattr("rl_logging.run.journaled.may_wait_beside_captures", lambda: False)
    return stand_in(monkeypatch)


@pytest.fixture
def logger(tmp_path: Path, stream: Stream) -> Iterator[ExperimentLogger]:
    with ExperimentLogger(dir=tmp_path, delivery="offline", quiet=True) as made:
        yield made
        stream.run()
