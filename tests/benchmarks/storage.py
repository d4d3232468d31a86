"""How many bytes a scalar takes on disk: in our journal, in W&B's file and in MLflow's SQLite."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.benchmarks import runs, stores
from tests.benchmarks.rows import Row

SCALARS = 20_000


def rows(arguments: Sequence[str]) -> list[Row]:
    argparse.ArgumentParser(prog="python -m tests.benchmarks storage").parse_args(arguments)
    stores.quieten()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = runs.offline_run(folder / "runs", {}, SCALARS)
        runs.raw_mlflow(f"sqlite:///{folder}/empty.db", 0)
        runs.raw_mlflow(f"sqlite:///{folder}/raw.db", SCALARS)
        (folder / "wandb").mkdir()
        runs.raw_wandb(folder, SCALARS)
        ours = size(bundle.journal.iterdir())
        mlflow = size([folder / "raw.db"]) - size([folder / "empty.db"])
        wandb = size((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    return [
        Row(
            name="bytes on disk a scalar, 20 to a call",
            beside=f"W&B's file {wandb / SCALARS:.0f}, MLflow's SQLite {mlflow / SCALARS:.0f}",
            goal="less than both",
            figure=f"{ours / SCALARS:.0f}",
            reached=ours < min(mlflow, wandb),
            details={"ours_bytes": ours, "mlflow_bytes": mlflow, "wandb_bytes": wandb, "scalars": SCALARS},
        )
    ]


def size(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)
