"""The stores that the benchmarks log to, all below a folder of their own."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any


def both(folder: Path) -> dict[str, Any]:
    """Returns a configuration that logs to MLflow (SQLite) and to W&B (offline)."""
    return {**mlflow_sqlite(folder), **wandb_offline(folder)}


def mlflow_sqlite(folder: Path) -> dict[str, Any]:
    """Returns one that logs to MLflow alone."""
    return {"mlflow": {"tracking_uri": f"sqlite:///{folder}/ours.db"}}


def wandb_offline(folder: Path) -> dict[str, Any]:
    """Returns one that logs to W&B alone."""
    return {"wandb": {"mode": "offline", "dir": str(folder / "ours")}}


def quieten() -> None:
    """Keeps what is logged and shown to users out of the figures, ours and the SDKs' alike."""
    os.environ.update(WANDB_SILENT="true", MLFLOW_DISABLE_TELEMETRY="true")
    logging.disable(logging.INFO)
