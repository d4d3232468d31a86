"""SQLite databases of MLflow's, copied: making the tables of one takes a second."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).parents[2] / ".cache"


def database(path: Path, artifact_root: str | None = None) -> str:
    """Makes the database `path`, which is not there yet, as MLflow makes it; returns its tracking URI.

    Args:
        path: Where.
        artifact_root: Where the default experiment's artifacts go, as a URI; None: beside it, as a run's delivery has
            it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_template(), path)
    root = (path.parent / "mlruns").absolute().as_uri() if artifact_root is None else artifact_root
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ?", (f"{root}/0",))
    return f"sqlite:///{path}"


def _template() -> Path:
    """Returns a database with nothing but its tables and the default experiment, made by the first who asks."""
    kept = CACHE / f"mlflow-{version('mlflow')}.db"
    if not kept.exists():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            made = Path(folder, "mlflow.db")
            SqlAlchemyStore(f"sqlite:///{made}", folder).engine.dispose()
            os.replace(made, kept)
    return kept
