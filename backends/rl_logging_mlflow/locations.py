"""Which locations of stores are MLflow's, and which tracking URI they mean."""

from __future__ import annotations

from pathlib import Path

from rl_logging.stores import StoreError
from rl_logging_mlflow import uris

NAME = "mlflow"


def locate(location: str, cwd: Path) -> str | None:
    """Returns the tracking URI that `location` means, absolute; None where it is no MLflow store's.

    Args:
        location: A tracking URI, a SQLite file or a file store's folder; ``mlflow:`` before it says that it is one.
            ``mlflow`` alone is the URI that MLflow itself would take.
        cwd: The working directory.

    Raises:
        StoreError: It is ``mlflow``, and there is no store here.
    """
    if location == NAME:
        return _default(cwd)
    uri = location.removeprefix(f"{NAME}:")
    if uri == location and not _is_store(location, cwd):
        return None
    if (cwd / uri).is_file():
        return f"sqlite:///{(cwd / uri).as_posix()}"
    return uris.absolute_tracking_uri(uri, cwd)


def _default(cwd: Path) -> str:
    import mlflow

    if mlflow.tracking.is_tracking_uri_set():
        return uris.absolute_tracking_uri(str(mlflow.get_tracking_uri()), cwd)
    uri = uris.default_tracking_uri(cwd)
    path = uris.sqlite_path(uri)
    if path is not None and not path.is_file():
        raise StoreError(
            f"{cwd} has neither run directories (rl_runs) nor an MLflow store (mlflow.db, mlruns): say where the runs "
            "are, by the store's location, or by MLFLOW_TRACKING_URI"
        )
    return uri


def _is_store(location: str, cwd: Path) -> bool:
    if uris.is_sql(location) or uris.is_http(location) or location.startswith(("file:", "databricks")):
        return True
    path = cwd / Path(location).expanduser()
    return (path.suffix == ".db" and path.is_file()) or any(path.glob("*/meta.yaml"))
