"""A long run, moved to another directory and delivered from there by syncs that are killed on the way.

``python -m tests.faults million`` plays it with a million scalars; `make faults` with a tenth of them.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from mlflow import MlflowClient

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import DestinationState, states
from rl_logging.journal import last_seq
from tests.support.memory import own_mb
from tests.support.wandb_server import API_KEY, StoredRun, WandbServer

PER_CALL: Final = 20
IMAGES: Final = 50
VIDEOS: Final = 5
MODELS: Final = 3
LOOK_EVERY_S: Final = 0.05
SYNC_TIMEOUT_S: Final = 1200

Reached = Callable[[dict[str, float]], bool]
"""Says from the part of the records that each store has (0 to 1) whether it is time to kill."""

KILLS: Final[tuple[Reached, ...]] = (
    lambda part: max(part.values()) >= 0.2,
    lambda part: max(part.values()) >= 0.5,
    lambda part: min(part.values()) >= 0.4,
)


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        scalars: How many were logged.
        mlflow: What MLflow has: the number of points, how often the most frequent one is there, and files by kind.
        wandb: The same of W&B.
        killed_at: The part that each store had when a sync was killed.
        exit_codes: Of the syncs that were let run to their end.
        wall_s: Of all syncs, the killed ones too.
        peak_mb: The most memory that a sync was seen to have to itself, looked at every `LOOK_EVERY_S`.
    """

    scalars: int
    mlflow: dict[str, int]
    wandb: dict[str, int]
    killed_at: list[dict[str, float]] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    wall_s: float = 0.0
    peak_mb: float = 0.0

    def verify(self) -> None:
        """Raises AssertionError where anything is not there exactly once."""
        whole = {"points": self.scalars, "most": 1, "runs": 1, "images": IMAGES, "videos": VIDEOS, "models": MODELS}
        assert self.mlflow == whole, self.mlflow
        assert self.wandb == whole, self.wandb
        assert len(self.killed_at) == len(KILLS), self.killed_at
        assert self.exit_codes == [0, 0], self.exit_codes


def main(scalars: int = 1_000_000) -> int:
    """Plays it and prints what came of it; returns the exit code: 1 where that is not as promised."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = play(Path(folder), scalars)
    print(outcome)
    try:
        outcome.verify()
    except AssertionError as error:
        print(f"not as promised: {error}", file=sys.stderr)
        return 1
    return 0


def play(folder: Path, scalars: int) -> Outcome:
    """Trains, moves the run away, syncs it with kills on the way, and reads both stores back."""
    database = folder / "store" / "mlflow.db"
    with WandbServer() as server:
        environ = {
            **os.environ,
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": API_KEY,
            "WANDB_ERROR_REPORTING": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        config = {
            "mlflow": {"tracking_uri": f"sqlite:///{database}"},
            "wandb": {"mode": "online", "base_url": server.url, "dir": str(folder / "store"), "project": "million"},
        }
        run_dir = train(folder / "training", config, scalars)
        bundle = Bundle(shutil.move(run_dir, folder / "moved"))
        outcome = Outcome(scalars, {}, {})
        begin = time.monotonic()
        for kill in KILLS:
            sync(bundle, environ, outcome, kill)
        sync(bundle, environ, outcome)
        outcome.wall_s = time.monotonic() - begin
        sync(bundle, environ, outcome)  # there is nothing left to do
        outcome.mlflow = in_mlflow(database)
        outcome.wandb = in_wandb(server, bundle.manifest.id)
    return outcome


def train(folder: Path, config: dict[str, Any], scalars: int) -> Path:
    """Returns the directory of a run that nobody has delivered yet."""
    calls = scalars // PER_CALL
    weights = folder / "weights.npy"
    folder.mkdir()
    with ExperimentLogger(config, dir=folder, delivery="offline", quiet=True) as logger:
        for step in range(calls):
            logger.log_metrics({f"train/metric_{index}": index * 0.5 + step for index in range(PER_CALL)}, step=step)
            if step % (calls // IMAGES) == 0:
                logger.log_image("view", np.full((32, 32, 3), step % 251, np.uint8), step=step)
            if step % (calls // VIDEOS) == 1:
                logger.log_video("episode", np.full((8, 32, 32, 3), step % 251, np.uint8), step=step)
            if step % (calls // MODELS) == 2 and step // (calls // MODELS) < MODELS:
                np.save(weights, np.full(1000, float(step)))
                logger.save_model(weights, step=step)
    return Path(logger.run_dir)


def sync(bundle: Bundle, environ: dict[str, str], outcome: Outcome, kill: Reached | None = None) -> None:
    """Runs ``rl-logging sync``; kills it once `kill` says so.

    Raises:
        RuntimeError: It ended before that.
    """
    accepted = last_seq(bundle.journal)
    with (bundle.path.parent / "sync.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "rl_logging", "sync", str(bundle.path)],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + SYNC_TIMEOUT_S
    try:
        while True:
            outcome.peak_mb = max(outcome.peak_mb, own_mb(process.pid))
            try:
                code = process.wait(LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                part = {name: state.confirmed / accepted for name, state in told(bundle).items()}
                if kill is not None and kill(part):
                    outcome.killed_at.append(part)
                    return
                if time.monotonic() > deadline:
                    raise TimeoutError(f"a sync has come to {part} in {SYNC_TIMEOUT_S} s") from None
                continue
            if kill is not None:
                raise RuntimeError(f"a sync ended with {code} before it could be killed: {told(bundle)}")
            outcome.exit_codes.append(code)
            return
    finally:
        process.kill()
        process.wait()


def told(bundle: Bundle) -> dict[str, DestinationState]:
    """Returns what the run directory says of each store."""
    return {entry.name: state for entry, state, _ in states(bundle).values()}


def in_mlflow(database: Path) -> dict[str, int]:
    """Returns what MLflow has, its points counted in its own database."""
    with sqlite3.connect(database) as connection:
        points, distinct = connection.execute(
            "SELECT count(*), count(DISTINCT key || ' ' || step) FROM metrics WHERE value = step + 0.5 * "
            "CAST(substr(key, length('train/metric_') + 1) AS INTEGER)"
        ).fetchone()
        (everything,) = connection.execute("SELECT count(*) FROM metrics").fetchone()
    client = MlflowClient(f"sqlite:///{database}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    run_id = runs[0].info.run_id
    files = {place: client.list_artifacts(run_id, place) for place in ("images", "videos/episode", "models/model")}
    return {
        "points": distinct,
        "most": 1 if points == distinct == everything else 2,
        "runs": len(runs),
        "images": sum(file.path.endswith(".png") for file in files["images"]),
        "videos": sum(file.path.endswith((".mp4", ".gif")) for file in files["videos/episode"]),
        "models": len(files["models/model"]),
    }


def in_wandb(server: WandbServer, run_id: str) -> dict[str, int]:
    """Returns what the W&B stand-in has; media count where both their row and their file are there."""
    run = server.runs[run_id]
    points = Counter(
        (key, row["global_step"])
        for row in run.rows
        for key, value in row.items()
        if key.startswith("train/") and value == row["global_step"] + 0.5 * int(key.rpartition("_")[2])
    )
    artifacts = [artifact for artifact in server.artifacts.values() if artifact.state == "COMMITTED"]
    return {
        "points": len(points),
        "most": max([*points.values(), *Counter(row["_step"] for row in run.rows).values()]),
        "runs": len(server.runs),
        "images": media(run, "image-file"),
        "videos": media(run, "video-file"),
        "models": sum(artifact.input["artifactTypeName"] == "model" for artifact in artifacts),
    }


def media(run: StoredRun, kind: str) -> int:
    values = [value for row in run.rows for value in row.values() if isinstance(value, dict)]
    return sum(1 for value in values if value.get("_type") == kind and run.files.get(value["path"]))
