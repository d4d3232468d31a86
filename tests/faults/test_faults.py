from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.rows import Row, rows_for
from tests.faults.stage import Stage
from tests.faults.stores import Stores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, pidfd and signals as Linux has them")

CASES = [pytest.param(row, store, id=f"{row.name}-{store}") for store in ("mlflow", "wandb") for row in rows_for(store)]


@pytest.mark.parametrize(("row", "store"), CASES)
def test_fault(row: Row, store: str, stores: Stores, tmp_path: Path) -> None:
    with Stage(tmp_path / "stage", stores, store) as stage:
        row.verify(row.play(stage))
