from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.stores import Stores


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    made = Stores(tmp_path_factory.mktemp("servers") / "shared")
    try:
        yield made
    finally:
        made.close()
