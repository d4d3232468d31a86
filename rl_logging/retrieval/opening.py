"""From a location to the store that is there."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from rl_logging import bundle as bundles
from rl_logging import plugins
from rl_logging.retrieval.local import LocalStore
from rl_logging.stores import Store, StoreError

RUN_DIRECTORIES: Final = "rl_runs"

Where = str | os.PathLike[str] | Store | None
"""What `open_store` takes."""


def open_store(location: Where = None) -> Store:
    """Opens a store to read from.

    Args:
        location: A folder of run directories, or one of them; MLflow's tracking URI (``sqlite:///mlflow.db``,
            ``http://...``, a file store's folder), or ``mlflow`` for MLflow's own default; ``wandb:entity/project``;
            what a plugin knows; or a store. None: MLflow's where a tracking URI is set in the environment or by
            ``mlflow.set_tracking_uri``; else the folder ``rl_runs``; else MLflow's default.

    Raises:
        StoreError: There is none, or it cannot be opened.
    """
    if location is None:
        location = _default()
    elif not isinstance(location, (str, os.PathLike)):
        return location
    where = os.fspath(location)
    folder = Path(where).expanduser()
    if folder.is_dir() and next(bundles.find(folder), None) is not None:
        return LocalStore(folder)
    reasons = []
    for name in sorted(plugins.installed()):
        try:
            store = plugins.load(name).open_store(where)
        except (plugins.PluginError, ImportError) as error:
            reasons.append(f"; the '{name}' plugin: {error}")
            continue
        if store is not None:
            return store
    raise StoreError(
        f"there is no store at {where!r}: it may be a folder of run directories, MLflow's tracking URI, 'mlflow', or "
        f"'wandb:entity/project'{''.join(reasons)}"
    )


def _default() -> str:
    mlflow = sys.modules.get("mlflow")
    if os.environ.get("MLFLOW_TRACKING_URI") or (mlflow is not None and mlflow.tracking.is_tracking_uri_set()):
        return "mlflow"
    folder = Path(os.environ.get("RL_LOGGING_DIR") or RUN_DIRECTORIES).expanduser()
    return str(folder) if folder.is_dir() and next(bundles.find(folder), None) is not None else "mlflow"
