"""A real MLflow server on the loopback, for tests: start, stop, kill, start again on the same store and port."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.mlflow_database import database

START_TIMEOUT_S = 180
END_TIMEOUT_S = 30
LIFETIME_S = 7200
"""A server ends by then, whatever became of the test that started it."""


class MlflowServer:
    """A server with a SQLite database and artifacts of its own below `folder`.

    The port is reserved while there is the object: until `start`, and after `stop` or `kill`, connections to it are
    refused, and nobody else ever gets it.

    Args:
        folder: Where database, artifacts and ``server.log`` go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reservation: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._reserve()

    @property
    def uri(self) -> str:
        """The tracking URI, the same for the object's life."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts the server and returns when it answers.

        Raises:
            RuntimeError: It ended, or did not answer in time; with the end of its log.
        """
        assert self._process is None, "it runs already"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--serve-artifacts"]
        if shutil.which("timeout"):
            command = ["timeout", "--kill-after=5", str(LIFETIME_S), *command]
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "_MLFLOW_"))}
        environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        if not (self.folder / "server.db").exists():
            database(self.folder / "server.db", "mlflow-artifacts:")
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(START_TIMEOUT_S * 5):
            if self._answers():
                return
            try:
                # Waiting for its end is the pause between two looks.
                self._process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
            break
        self.kill()
        tail = (self.folder / "server.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the MLflow server on {self.uri} did not start:\n{tail}")

    def stop(self) -> None:
        """Ends the server; does nothing where none runs."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the server without warning; does nothing where none runs."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Ends the server and gives the port back."""
        self.stop()
        self._release()

    def get(self, path: str) -> Any:
        """Returns the JSON answer to a GET of `path`, as MLflow's pages ask for it."""
        with urllib.request.urlopen(self.uri + path, timeout=180) as answer:
            return json.loads(answer.read())

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _end(self, how: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # timeout(1) may have made a group of its own within the session; ending it ends that group too.
        for number in (how, signal.SIGKILL):
            self._signal(process, number)
            try:
                process.wait(END_TIMEOUT_S)
                break
            except subprocess.TimeoutExpired:
                continue
        self._signal(process, signal.SIGKILL)
        self._reserve()

    @staticmethod
    def _signal(process: subprocess.Popen[bytes], number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    def _reserve(self) -> None:
        # Bound but not listening: connections are refused, and the port is ours. The server, which reuses addresses,
        # gets it beside this one; a second one only once nobody listens.
        reservation = socket.socket()
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for _ in range(END_TIMEOUT_S * 20):
            try:
                reservation.bind(("127.0.0.1", self._port))
                break
            except OSError:
                # The server's own children, which are not ours to wait for, are still letting go of it.
                select.select([], [], [], 0.05)
        else:
            raise RuntimeError(f"port {self._port} is still taken {END_TIMEOUT_S} s after the server's end")
        self._release()
        self._reservation = reservation
        self._port = reservation.getsockname()[1]

    def _release(self) -> None:
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None


@contextmanager
def running_mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """Gives a server that runs, and ends it."""
    server = MlflowServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def reserved_mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """Gives a server that does not run yet: its URI is known, connections to it are refused until `start`."""
    server = MlflowServer(folder)
    try:
        yield server
    finally:
        server.close()
