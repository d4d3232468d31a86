"""Files of a run, put below its artifacts under names that every store bears."""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rl_logging.sinks import Ledger
from rl_logging_mlflow.names import clean_path
from rl_logging_mlflow.remote import RefusedError, RemoteRun, asking


class Artifacts:
    """Where a run's files go. A file put again replaces the one before.

    Args:
        remote: The run.
        ledger: Is told of changed names.
    """

    def __init__(self, remote: RemoteRun, ledger: Ledger) -> None:
        self._remote = remote
        self._ledger = ledger
        self._repository: Any = None
        if remote.artifact_uri.startswith("mlflow-artifacts:"):
            self._repository = served(remote.artifact_uri, remote.uri)

    def put_file(self, path: Path, target: str) -> None:
        """Puts the file `path` at `target`, an artifact path.

        Raises:
            FileNotFoundError: There is no such file.
            TransientError: Not now.
            RefusedError: Never.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing from the run directory")
        folder, name = posixpath.split(target)
        with _named(path, name) as named:
            try:
                with asking(self._remote.uri, upload_bytes=path.stat().st_size):
                    if self._repository is not None:
                        self._repository.log_artifact(str(named), folder or None)
                    else:
                        self._remote.client.log_artifact(self._remote.id, str(named), folder or None)
            except RefusedError as error:
                self._remote.require_run(error)
                raise

    def put(self, path: Path, target: str) -> None:
        """Puts a file, or a folder's files, at `target`.

        Raises:
            FileNotFoundError: There is nothing at `path`.
            TransientError: Not now.
            RefusedError: Not one of the files; those before it are there.
        """
        if not path.is_dir():
            self.put_file(path, target)
            return
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            inner = file.relative_to(path).as_posix()
            self.put_file(file, posixpath.join(target, self.clean(inner)))

    def clean(self, path: str) -> str:
        """Returns `path` as an artifact path, telling where it differs."""
        cleaned = clean_path(path)
        if cleaned != path:
            self._ledger.renamed(path, cleaned)
        return cleaned


def served(artifact_uri: str, tracking_uri: str) -> Any:
    """Returns the repository of artifacts that the tracking server hands on itself.

    Before 3.5 MLflow's client looked for them at the process's own tracking URI, not at the client's.
    """
    from mlflow.store.artifact import http_artifact_repo, mlflow_artifacts_repo

    scheme: Any = mlflow_artifacts_repo.MlflowArtifactsRepository
    repository: Any = http_artifact_repo.HttpArtifactRepository
    return repository(scheme.resolve_uri(artifact_uri, tracking_uri))


@contextmanager
def _named(path: Path, name: str) -> Iterator[Path]:
    """Gives `path` under the file name `name`: MLflow stores a file under its own."""
    if path.name == name:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="rl_logging-") as folder:
        named = Path(folder) / name
        try:
            os.symlink(path.resolve(), named)
        except OSError:
            shutil.copyfile(path, named)  # Windows makes links for administrators only.
        yield named
