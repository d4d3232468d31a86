"""The MLflow run as this sink talks to it: bounded requests, and errors that say what to do with the records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rl_logging.sinks import RejectedError, TransientError
from rl_logging_mlflow import uris
from rl_logging_mlflow.errors import status_of, transient, words_of
from rl_logging_mlflow.patience import bounded_requests

NO_ACCESS = frozenset({401, 403})
NOT_FOUND = 404


class RefusedError(Exception):
    """The store will not take what it was sent, however often.

    Args:
        message: Its words.
        status: The HTTP status it stands for.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def asking(uri: str, upload_bytes: int = 0) -> Iterator[None]:
    """Bounds the requests made within and translates their errors.

    Raises:
        TransientError: Busy, down or out of reach.
        RefusedError: The store refused it.
    """
    local = uris.is_sql(uri) or uris.is_file_store(uri)
    with bounded_requests(upload_bytes):
        try:
            yield
        except (TransientError, RefusedError, RejectedError):
            raise
        except Exception as error:
            later = transient(error, remote=not local)
            if later is not None:
                raise later from error
            status = status_of(error)
            if status is not None:
                raise RefusedError(words_of(error), status) from error
            raise


class RemoteRun:
    """One run of one store.

    Args:
        client: The `mlflow.MlflowClient`.
        uri: Its tracking URI.
        run: The `mlflow.entities.Run` as it was when opened.
    """

    def __init__(self, client: Any, uri: str, run: Any) -> None:
        self.client = client
        self.uri = uri
        self.id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.artifact_uri: str = run.info.artifact_uri
        self.metrics: dict[str, float] = run.data.metrics
        self.params: dict[str, str] = run.data.params
        self.tags: dict[str, str] = run.data.tags

    def log_batch(self, **entries: Any) -> None:
        """Sends metrics, or params, or tags, in one request.

        Raises:
            TransientError: Not now, or not with these credentials.
            RefusedError: Not these.
            RejectedError: The run itself takes nothing any more.
        """
        try:
            with asking(self.uri):
                self.client.log_batch(self.id, **entries)
        except RefusedError as error:
            self.require_run(error)
            raise

    def require_run(self, error: RefusedError) -> None:
        """Says so where `error` is not about what was sent, but about the run or the credentials."""
        if error.status in NO_ACCESS:
            raise TransientError(no_access(self.uri, error)) from error
        # The whole error is asked for only after a refusal, so this request is rare.
        try:
            with asking(self.uri):
                stage = self.client.get_run(self.id).info.lifecycle_stage
        except RefusedError as gone:
            raise RejectedError(missing_run(self.id, self.uri, gone)) from gone
        if stage == "deleted":
            raise RejectedError(missing_run(self.id, self.uri, error)) from error

    def set_tags(self, tags: dict[str, str]) -> None:
        """Sets tags; keys are legal, values at most 8000 characters."""
        from mlflow.entities import RunTag

        if tags:
            self.log_batch(tags=[RunTag(key, value) for key, value in tags.items()])
            self.tags.update(tags)


def no_access(uri: str, error: Exception) -> str:
    """Returns what to do about refused credentials."""
    if uri.startswith("databricks"):
        variables = "DATABRICKS_HOST and DATABRICKS_TOKEN"
    else:
        variables = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    return f"{uris.without_credentials(uri)} refuses access: set {variables} in the environment ({error})"


def missing_run(run_id: str, uri: str, error: Exception) -> str:
    """Returns what to do about a run that was deleted."""
    return (
        f"run {run_id} was deleted, or never was, at {uris.without_credentials(uri)}: restore it with "
        f"'mlflow runs restore --run-id {run_id}', or name another experiment to start anew ({error})"
    )
