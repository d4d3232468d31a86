"""What ``finish()`` takes when delivery is up to date, beside what the SDKs take to close their runs."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import states
from tests.benchmarks import runs, stores
from tests.benchmarks.rows import Row

MOST_S = 0.5
CALLS = 100
FLUSH_S = 120


def rows(arguments: Sequence[str]) -> list[Row]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks finish")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    stores.quieten()
    with tempfile.TemporaryDirectory() as folder:
        found = [(ours_s(Path(folder)), raw_s(Path(folder))) for _ in range(options.rounds)]
    theirs_s = statistics.median(raw for _, raw in found)
    beyond_s = statistics.median(ours - raw for ours, raw in found)
    return [
        Row(
            name="finish() when delivery is up to date: MLflow (SQLite) and W&B (offline)",
            beside=f"set_terminated, and wandb's finish and teardown: {theirs_s:.2f} s",
            goal=f"≤ {MOST_S} s beyond that",
            figure=f"{statistics.median(ours for ours, _ in found):.2f} s, {beyond_s:+.2f} s",
            reached=beyond_s <= MOST_S,
            details={"ours_s": [ours for ours, _ in found], "raw_s": [raw for _, raw in found]},
        )
    ]


def ours_s(folder: Path) -> float:
    logger = ExperimentLogger(stores.both(folder), dir=folder / "runs", quiet=True)
    for step in range(CALLS):
        logger.log_metrics(runs.values(runs.PER_CALL, step), step=step)
    logger.flush(FLUSH_S)
    begin = time.perf_counter()
    logger.finish()
    spent_s = time.perf_counter() - begin
    for entry, state, _ in states(Bundle(logger.run_dir)).values():
        if state.closed is None:
            raise RuntimeError(f"{entry.name} was not closed: {state}")
    return spent_s


def raw_s(folder: Path) -> float:
    import wandb
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/raw.db")
    run_id = client.create_run("0").info.run_id
    run = wandb.init(mode="offline", dir=str(folder), settings=wandb.Settings(console="off", silent=True))
    for step in range(CALLS):
        run.log(runs.values(runs.PER_CALL, step), step=step)
    begin = time.perf_counter()
    client.set_terminated(run_id)
    run.finish()
    wandb.teardown()
    return time.perf_counter() - begin
