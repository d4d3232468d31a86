from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults import million


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_long_run_moved_and_synced_with_kills_on_the_way(tmp_path: Path) -> None:
    outcome = million.play(tmp_path, 100_000)
    outcome.verify()
    assert outcome.peak_mb <= 300
