from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rl_logging.bundle import Bundle
from rl_logging.testing.memory import MemoryStore
from tests.support.bundles import make_bundle
from tests.support.workers import ENTRY


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    made = MemoryStore()
    yield made
    made.restore()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path, ENTRY)
