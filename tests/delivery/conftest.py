from __future__ import annotations

from pathlib import Path

import pytest

from rl_logging.bundle import Bundle
from tests.support.bundles import make_bundle
from tests.support.workers import ENTRY


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path, ENTRY)
