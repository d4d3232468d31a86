"""The two stores behind one face: put in trouble, and read back with their own readers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from tests.support.fault_proxy import Fault, FaultProxy, Request
from tests.support.mlflow_server import MlflowServer
from tests.support.wandb_server import API_KEY, StoredRun, WandbServer

Points = Counter[tuple[str, int]]
"""How often each (metric, step) is in a store."""

EXPERIMENT = "faults"


class Store(Protocol):
    """A store, reached through a proxy that can be put in trouble.

    Attributes:
        name: mlflow or wandb.
        front: The proxy.
    """

    name: str
    front: FaultProxy

    @property
    def config(self) -> dict[str, Any]:
        """The logger's configuration."""

    @property
    def environ(self) -> dict[str, str]:
        """Environment variables of the training: credentials, and waits that suit a test."""

    def is_rows(self, request: Request) -> bool:
        """Whether metrics are sent by this request."""

    def is_creation(self, request: Request) -> bool:
        """Whether the run is created by this request."""

    def is_upload(self, request: Request) -> bool:
        """Whether an image is sent by this request."""

    def kill(self) -> None:
        """Ends the server without warning."""

    def start(self) -> None:
        """Starts it again, with all that it had."""

    def runs(self) -> list[str]:
        """Returns the ids of all the runs that it has."""

    def points(self, run_id: str) -> Points:
        """Returns what it has of the bundle's run."""

    def status(self, run_id: str) -> str | None:
        """Returns finished, failed, killed or running; None where it does not know the run."""

    def images(self, run_id: str) -> int:
        """Returns how many images of the run it has in full."""


class MlflowStore:
    """A real ``mlflow server`` on SQLite.

    Args:
        server: The server.
    """

    name = "mlflow"

    def __init__(self, server: MlflowServer) -> None:
        self._server = server
        self.front = FaultProxy(lambda: server.uri)

    @property
    def _uri(self) -> str:
        return self._server.uri

    @property
    def config(self) -> dict[str, Any]:
        return {"mlflow": {"tracking_uri": self.front.url, "experiment": EXPERIMENT}}

    @property
    def environ(self) -> dict[str, str]:
        return {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_DISABLE_TELEMETRY": "true"}

    def is_rows(self, request: Request) -> bool:
        return request.path.endswith("/runs/log-batch") and b'"metrics"' in request.body

    def is_creation(self, request: Request) -> bool:
        return request.path.endswith("/runs/create")

    def is_upload(self, request: Request) -> bool:
        return request.method == "PUT" and "/images/" in request.path

    def kill(self) -> None:
        self._server.kill()

    def start(self) -> None:
        self._server.start()

    def runs(self) -> list[str]:
        return [run.data.tags["rl_logging.run_id"] for run in self._all()]

    def points(self, run_id: str) -> Points:
        return mlflow_points(self._client, self._of(run_id))

    def status(self, run_id: str) -> str | None:
        runs = self._of(run_id)
        return str(runs[0].info.status).lower() if runs else None

    def images(self, run_id: str) -> int:
        (run,) = self._of(run_id)
        listed = self._client.list_artifacts(run.info.run_id, "images")
        return sum(1 for file in listed if file.path.endswith(".png") and file.file_size)

    @cached_property
    def _client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self._uri)

    def _all(self) -> list[Any]:
        numbers = [experiment.experiment_id for experiment in self._client.search_experiments()]
        return list(self._client.search_runs(numbers, max_results=1000))

    def _of(self, run_id: str) -> list[Any]:
        return [run for run in self._all() if run.data.tags["rl_logging.run_id"] == run_id]


def mlflow_points(client: Any, runs: list[Any]) -> Points:
    """Returns all points of `runs`."""
    points: Points = Counter()
    for run in runs:
        for key in run.data.metrics:
            points.update((key, point.step) for point in client.get_metric_history(run.info.run_id, key))
    return points


class SqliteStore(MlflowStore):
    """An MLflow store that is a file, which the delivery processes open themselves.

    Args:
        path: The database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def _uri(self) -> str:
        return f"sqlite:///{self._path}"

    @property
    def config(self) -> dict[str, Any]:
        return {"mlflow": {"tracking_uri": self._uri, "experiment": EXPERIMENT}}


class WandbStore:
    """The stand-in for W&B's server, with the real client: there is no real server without an account."""

    name = "wandb"

    def __init__(self) -> None:
        self._server = _Fronted(lambda: self.front.url)
        self._server.__enter__()
        self.front = FaultProxy(lambda: self._server.own_url)

    @property
    def config(self) -> dict[str, Any]:
        return {"wandb": {"mode": "online", "project": EXPERIMENT, "dir": "wandb-files"}}

    @property
    def environ(self) -> dict[str, str]:
        waits = {
            f"WANDB_X_{part}_RETRY_WAIT_{end}_SECONDS": "1"
            for part in ("FILE_STREAM", "FILE_TRANSFER", "GRAPHQL")
            for end in ("MIN", "MAX")
        }
        return {
            **waits,
            "WANDB_BASE_URL": self.front.url,
            "WANDB_API_KEY": API_KEY,
            "WANDB_INIT_TIMEOUT": "10",
            "WANDB_FINISH_TIMEOUT": "15",
            "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
            "WANDB_X_FILE_STREAM_TIMEOUT_SECONDS": "5",
            "WANDB_X_FILE_TRANSFER_TIMEOUT_SECONDS": "5",
            "WANDB_X_GRAPHQL_TIMEOUT_SECONDS": "5",
            "WANDB_X_DISABLE_STATS": "true",
            "WANDB_ERROR_REPORTING": "false",
        }

    def is_rows(self, request: Request) -> bool:
        return request.path.endswith("/file_stream") and b"wandb-history.jsonl" in request.body

    def is_creation(self, request: Request) -> bool:
        return request.path.startswith("/graphql") and b"upsertBucket" in request.body

    def is_upload(self, request: Request) -> bool:
        return request.method == "PUT" and self._server.is_media(int(request.path.rpartition("/")[2]))

    def kill(self) -> None:
        self.front.go_down()

    def start(self) -> None:
        self.front.come_up()

    def runs(self) -> list[str]:
        return list(self._server.runs)

    def points(self, run_id: str) -> Points:
        run = self._server.runs.get(run_id)
        return wandb_points([] if run is None else [run])

    def status(self, run_id: str) -> str | None:
        run = self._server.runs.get(run_id)
        if run is None:
            return None
        if not run.complete:
            return "running"
        return {0: "finished", 255: "killed"}.get(run.exit_code or 0, "failed")

    def images(self, run_id: str) -> int:
        run = self._server.runs[run_id]
        paths = [value["path"] for row in run.rows for value in row.values() if _is_image(value)]
        return sum(1 for path in paths if run.files.get(path))

    def close(self) -> None:
        """Ends it."""
        self.front.close()
        self._server.__exit__(None)


def _is_image(value: object) -> bool:
    return isinstance(value, dict) and value.get("_type") == "image-file"


def wandb_points(runs: list[StoredRun]) -> Points:
    """Returns all points of `runs`, W&B's own and the step's excepted."""
    points: Points = Counter()
    for run in runs:
        for row in run.rows:
            points.update(
                (key, int(row["global_step"]))
                for key in row
                if not key.startswith("_") and key != "global_step" and not _is_image(row[key])
            )
    return points


class _Fronted(WandbServer):
    """A stand-in whose upload addresses lead through the proxy too."""

    def __init__(self, front: Callable[[], str]) -> None:
        super().__init__()
        self._front = front

    @property
    def own_url(self) -> str:
        """Its own address."""
        return super().url

    @property
    def url(self) -> str:
        return self._front()

    def is_media(self, number: int) -> bool:
        """Says whether an address it gave is for a picture or video of a run."""
        return self._uploads[number][2].startswith("media/")


class Stores:
    """Makes stores for tests; one ``mlflow server`` serves all that do not kill it.

    Args:
        folder: Where the shared server lives.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._shared: MlflowServer | None = None
        self._lock = threading.Lock()

    def make(self, name: str, folder: Path, *, own: bool = False, started: bool = True) -> Store:
        """Returns a store.

        Args:
            name: mlflow or wandb.
            folder: Where it keeps what is its own.
            own: Whether the server is nobody else's and may be killed.
            started: Whether it runs.
        """
        if name == "wandb":
            wandb_store = WandbStore()
            self._stack.callback(wandb_store.close)
            if not started:
                wandb_store.kill()
            return wandb_store
        server = self._own(folder) if own or not started else self._shared_server()
        if own and started:
            server.start()
        store = MlflowStore(server)
        self._stack.callback(store.front.close)
        return store

    def close(self) -> None:
        """Ends every server."""
        self._stack.close()

    def _own(self, folder: Path) -> MlflowServer:
        server = MlflowServer(folder)
        self._stack.callback(server.close)
        return server

    def _shared_server(self) -> MlflowServer:
        with self._lock:
            if self._shared is None:
                self._shared = self._own(self._folder)
                self._shared.start()
            return self._shared


__all__ = ["EXPERIMENT", "Fault", "MlflowStore", "Points", "Store", "Stores", "WandbStore", "mlflow_points"]
