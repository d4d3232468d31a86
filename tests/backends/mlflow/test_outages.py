from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import filelock
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR

from rl_logging import ExperimentLogger
from rl_logging.delivery import backoff
from rl_logging.records import Artifact, Metrics
from rl_logging.sinks import RejectedError, TransientError
from rl_logging_mlflow import patience
from rl_logging_mlflow.errors import transient
from tests.support.mlflow_driver import CREATED, Bench
from tests.support.mlflow_server import MlflowServer, reserved_mlflow_server
from tests.support.tcp_gate import TcpGate

BOUND_S = 20.0


def metric(seq: int) -> Metrics:
    return Metrics(seq=seq, time=CREATED + seq, step=seq, values={"a": float(seq)})


@contextmanager
def answering(status: int, body: str = "", **headers: str) -> Iterator[str]:
    """A server that gives everyone the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    with serving(Handler) as address:
        yield address


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on the loopback; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_a_server_that_comes_goes_and_comes_back(tmp_path: Path) -> None:
    with reserved_mlflow_server(tmp_path / "server") as server:
        bench = Bench(server.uri, tmp_path / "run")
        before = time.monotonic()
        with pytest.raises(TransientError):
            bench.sink().open(None)
        assert time.monotonic() - before < BOUND_S
        server.start()
        sink = bench.open()
        sink.write([metric(1)])
        server.kill()
        artifact = Artifact(seq=3, time=CREATED, name="a", path=bench.place("files/a.bin", b"x"))
        before = time.monotonic()
        for _ in range(2):
            with pytest.raises(TransientError):
                sink.write([metric(2), artifact])
        with pytest.raises(TransientError):
            sink.close("finished")
        assert time.monotonic() - before < BOUND_S
        assert sink.confirmed() == 1
        server.start()
        sink.write([metric(2), artifact])
        assert sink.confirmed() == 3
        sink.close("finished")
        assert [step for step, _, _ in bench.history("a")] == [1, 2]
        assert set(bench.files("artifacts")) == {"artifacts/a/a.bin"}
        assert bench.run().info.status == "FINISHED"


def test_whoever_waits_is_answered_soon_once_the_server_is_back(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_S", "CAP_S"):
        monkeypatch.setattr(backoff, name, 1000.0)
    gate = TcpGate(int(server.uri.rpartition(":")[2]))
    sinks = {"mlflow": {"tracking_uri": f"http://127.0.0.1:{gate.port}"}}
    with contextlib.closing(gate), ThreadPoolExecutor(1) as waiting:
        with gate.shut():
            logger = ExperimentLogger(sinks=sinks, delivery="thread", dir=tmp_path / "runs", quiet=True)
            logger.log_metrics({"a": 1.0}, step=0)
            gate.wait_for_refused(1)
            flushed = waiting.submit(logger.flush, 60)
            gate.wait_for_refused(2)
        assert flushed.result(60)
        logger.finish()


@contextmanager
def losing_the_answer(uri: str, path: str) -> Iterator[str]:
    """A way to the server at `uri` that loses its first answer to a POST of `path`, after the server did it."""
    lost: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kept = {name: value for name, value in self.headers.items() if name.lower() in ("content-type", "accept")}
            request = urllib.request.Request(uri + self.path, body or None, kept, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=180) as answer:
                    status, content = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                status, content = error.code, error.read()
            if self.path.endswith(path) and not lost:
                lost.append(self.path)
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    with serving(Handler) as address:
        yield address
    assert lost


def test_a_lost_answer_makes_no_second_run(server: MlflowServer, tmp_path: Path) -> None:
    with losing_the_answer(server.uri, "/runs/create") as uri:
        bench = Bench(uri, tmp_path / "run")
        with pytest.raises(TransientError):
            bench.open()
        bench.deliver([metric(1)])
        assert bench.client is not None
        assert len(bench.client.search_runs([bench.run().info.experiment_id])) == 1


def test_a_lost_answer_stores_no_point_twice(server: MlflowServer, tmp_path: Path) -> None:
    with losing_the_answer(server.uri, "/runs/log-batch") as uri:
        bench = Bench(uri, tmp_path / "run")
        sink = bench.open()
        with pytest.raises(TransientError):
            sink.write([metric(1), metric(2)])
        sink.write([metric(1), metric(2)])
        sink.close("finished")
        assert [step for step, _, _ in bench.history("a")] == [1, 2]
        assert bench.ledger.merges == []


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again_later(tmp_path: Path, status: int) -> None:
    with answering(status, "busy", Retry_After="7") as uri:
        before = time.monotonic()
        with pytest.raises(TransientError) as caught:
            Bench(uri, tmp_path / "run").open()
        assert time.monotonic() - before < BOUND_S
        assert caught.value.retry_after_s == (7.0 if status in (429, 503) else caught.value.retry_after_s)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_name_the_variables(tmp_path: Path, status: int) -> None:
    with answering(status, "no") as uri, pytest.raises(RejectedError, match="MLFLOW_TRACKING_USERNAME"):
        Bench(uri, tmp_path / "run").open()


def test_what_is_no_mlflow_server_is_rejected(tmp_path: Path) -> None:
    with answering(404, "<html>") as uri, pytest.raises(RejectedError, match="404"):
        Bench(uri, tmp_path / "run").open()
    with pytest.raises(RejectedError):
        Bench("http://host:port", tmp_path / "other").open()


def test_a_server_that_hangs_does_not_hold_us_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "REQUEST_TIMEOUT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        before = time.monotonic()
        with pytest.raises(TransientError):
            Bench(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path / "run").open()
        assert time.monotonic() - before < BOUND_S


@pytest.mark.parametrize(
    "message",
    [
        "QueuePool limit of size 5 overflow 10 reached, connection timed out",
        "(sqlite3.OperationalError) database is locked",
    ],
)
def test_a_busy_database_is_transient_whatever_its_status(message: str) -> None:
    assert transient(MlflowException(message, BAD_REQUEST), remote=True) is not None
    assert transient(MlflowException(message, BAD_REQUEST), remote=False) is not None


def test_an_internal_error_passes_on_a_server_only() -> None:
    error = MlflowException("broken", INTERNAL_ERROR)
    assert transient(error, remote=True) is not None
    assert transient(error, remote=False) is None


def test_limits_hold_during_our_requests_only(monkeypatch: pytest.MonkeyPatch) -> None:
    retries, timeout = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
    monkeypatch.setenv(retries, "5")
    with patience.bounded_requests():
        assert (os.environ[retries], os.environ[timeout]) == ("0", "20")
        with patience.bounded_requests(upload_bytes=50_000_000):
            assert os.environ[timeout] == "120"
        assert os.environ[timeout] == "20"
    assert (os.environ[retries], os.environ.get(timeout)) == ("5", None)


def test_a_timeout_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")
    with patience.bounded_requests(upload_bytes=50_000_000):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "300"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "300"


def test_a_locked_database_is_transient(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    with filelock.FileLock(tmp_path / ".mlflow.db.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("rl_logging_mlflow.tables._LOCK_TIMEOUT_S", 0.1)
        with pytest.raises(TransientError, match=r"\.mlflow\.db\.lock"):
            Bench(f"sqlite:///{database}", tmp_path / "run").open()
