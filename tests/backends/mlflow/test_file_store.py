from __future__ import annotations

from pathlib import Path

import pytest

from rl_logging.records import Config, Metrics
from rl_logging.sinks import RejectedError
from tests.support.mlflow_driver import CREATED, Bench

RECORDS = [
    Metrics(seq=1, time=CREATED, step=1, values={"train/loss": 1.0}),
    Config(seq=2, time=CREATED, values={"a": {"b": 1}}),
]


def test_a_folder_of_files_needs_mlflows_own_permission(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="MLFLOW_ALLOW_FILE_STORE"):
        Bench(f"file://{tmp_path}/mlruns", tmp_path / "run").open()


@pytest.mark.filterwarnings("ignore:.*filesystem tracking backend.*:FutureWarning")
def test_a_folder_of_files_takes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    bench = Bench(f"file://{tmp_path}/mlruns", tmp_path / "run")
    bench.deliver(RECORDS)
    assert bench.history("train/loss") == [(1, 1.0, 1_700_000_000_250)]
    assert bench.run().data.params == {"a/b": "1"}
    assert set(bench.files()) == {"config.yaml"}
    assert bench.run().info.status == "FINISHED"
