"""A whole run, delivered by a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from rl_logging import ExperimentLogger


def test_a_run_arrives(tmp_path: Path) -> None:
    options = {"folder": str(tmp_path / "store")}
    with ExperimentLogger({"seed": 7}, dir=tmp_path / "rl_runs", sinks={"jsonl": options}) as logger:
        for step in range(100):
            logger.log_metrics({"train": {"loss": 1 / (step + 1)}}, step=step)
        logger.log_image("state", np.zeros((8, 8, 3), dtype=np.uint8), step=50)
        logger.log_artifact(__file__, name="source")
        logger.save_model(Path(__file__), name="policy", step=99)
    status = logger.status()["jsonl"]
    assert status.pending == status.skipped == status.rejected == 0
    assert status.url is not None
    path = Path(status.url)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    points = [(row["step"], row["body"]["train/loss"]) for row in rows if row["kind"] == "metrics"]
    assert points == [(step, 1 / (step + 1)) for step in range(100)]
    assert {"config", "environment", "image", "artifact", "model"} <= {row["kind"] for row in rows}
    (image,) = (row["seq"] for row in rows if row["kind"] == "image")
    (picture,) = (path.parent / "files" / str(image)).iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads((path.parent / "run.json").read_text(encoding="utf-8"))["status"] == "finished"
