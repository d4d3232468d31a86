"""Making the tables of a SQLite store, so that neither another process nor a kill leaves it with half of them."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from rl_logging.sinks import TransientError
from rl_logging_mlflow import uris

_LOCK_TIMEOUT_S: Final = 60


def ensure(uri: str, path: Path, artifact_root: Path) -> None:
    """Makes a SQLite store's tables, or brings them up to date.

    Several processes that make them at once break each other; MLflow's own lock is within one process. And SQLite
    keeps what a killed migration has done, which MLflow cannot go on from: a new database is made beside its place.

    Args:
        uri: The tracking URI.
        path: Its database file.
        artifact_root: Where the default experiment's artifacts go; MLflow would derive that from the working directory
            of whoever comes first.

    Raises:
        TransientError: Another process is at it, for long.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store: Any = SqlAlchemyStore
    root = uris.file_uri(artifact_root)
    with _exclusively(path):
        if not path.exists() or not path.stat().st_size:
            made = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
            try:
                store(uri.replace(str(path), str(made), 1), root).engine.dispose()
                _put(made, path)
            finally:
                made.unlink(missing_ok=True)
        # Also after that: MLflow keeps connections to a file that was there before, and somebody has deleted since.
        store(uri, root).engine.dispose()


def probe(path: Path) -> None:
    """Writes where SQLite will, which has a journal beside the database: MLflow itself would try for a minute.

    Raises:
        TransientError: That cannot be, now.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists():
            path.open("r+b").close()
    except OSError as error:
        raise TransientError(f"{path} cannot be written: {error}; say with mlflow.tracking_uri where it may") from error


def _put(made: Path, path: Path) -> None:
    """Moves a file to its place; one that somebody has put there meanwhile stays."""
    if path.exists() and not path.stat().st_size:
        path.unlink()
    try:
        os.link(made, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        made.rename(path)


def _exclusively(path: Path) -> AbstractContextManager[object]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_TIMEOUT_S)
    try:
        return lock.acquire()
    except Timeout as error:
        raise TransientError(f"another process holds {lock.lock_file} for over {_LOCK_TIMEOUT_S} s") from error
    except (NotImplementedError, OSError):
        # A file system without locks: opening without one is what everyone else does there.
        return nullcontext()
