"""The contract of every sink, on a database and on a server, read back with MLflow's own client."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from rl_logging.plugins import load
from rl_logging.sinks import Sink, SinkContext
from rl_logging.testing import SinkContract, Stored
from tests.support.mlflow_server import MlflowServer
from tests.support.tcp_gate import TcpGate

IMAGE = re.compile(r"images/(?P<name>[^+]+)\+step\+(?P<step>-?\d+)\+timestamp\+\d+\+[0-9a-f-]{36}\.png")
VIDEO = re.compile(r"videos/(?P<name>.+)/step_(?P<step>-?\d+)(?:-\d+)?\.mp4")
MODEL = re.compile(r"models/(?P<name>.+)/step_(?P<step>-?\d+)(?:-\d+)?/(?P<file>(?!checksums\.json$).+)")
ARTIFACT = re.compile(r"artifacts/(?P<name>.+)/step_(?P<step>-?\d+)(?:-\d+)?/(?P<file>.+)")
STEPLESS = re.compile(r"artifacts/(?P<name>(?:(?!/step_).)+?)(?P<step>)/(?P<file>[^/]+)")


class Reader:
    """Reads one run back.

    Args:
        uri: The store.
        run_id: The run.
        scratch: Where downloads go.
    """

    def __init__(self, uri: str, run_id: str, scratch: Path) -> None:
        self.client = MlflowClient(tracking_uri=uri)
        self.run = self.client.get_run(run_id)
        self.run_id = run_id
        self.scratch = scratch / uuid.uuid4().hex
        self.scratch.mkdir(parents=True)
        self.files = {path: self.content(path) for path in self.paths()}

    def paths(self, folder: str | None = None) -> Iterator[str]:
        for entry in self.client.list_artifacts(self.run_id, folder):
            yield from self.paths(entry.path) if entry.is_dir else [entry.path]

    def content(self, path: str) -> bytes:
        return Path(self.client.download_artifacts(self.run_id, path, str(self.scratch))).read_bytes()

    def points(self) -> list[tuple[str, int, float]]:
        return [
            (key, point.step, point.value)
            for key in self.run.data.metrics
            for point in self.client.get_metric_history(self.run_id, key)
        ]

    def single(self, pattern: re.Pattern[str]) -> list[tuple[str, int, bytes]]:
        found = [(pattern.fullmatch(path), content) for path, content in self.files.items()]
        return [(m["name"].replace("~", "/"), int(m["step"]), content) for m, content in found if m]

    def folders(self, pattern: re.Pattern[str]) -> list[tuple[str, int | None, dict[str, bytes]]]:
        found: dict[tuple[str, int | None], dict[str, bytes]] = {}
        for path, content in self.files.items():
            match = pattern.fullmatch(path)
            if match:
                step = int(match["step"]) if match["step"] else None
                found.setdefault((match["name"], step), {})[match["file"]] = content
        return [(*key, files) for key, files in found.items()]

    def stored(self) -> Stored:
        tags = self.run.data.tags
        return Stored(
            points=self.points(),
            config=yaml.safe_load(self.files.get("config.yaml", b"{}")),
            images=self.single(IMAGE),
            videos=self.single(VIDEO),
            models=self.folders(MODEL),
            artifacts=[*self.folders(ARTIFACT), *self.folders(STEPLESS)],
            tags=json.loads(tags.get("rl_logging.tags", "[]")),
            notes=tags.get("mlflow.note.content"),
            environment=[path for path in self.files if "/" not in path],
            status=self.run.info.status.lower(),
        )


class MlflowContract(SinkContract):
    """What both stores share; each names `uri` (the sink's) and `direct_uri` (the reader's)."""

    timeout_s = 60.0

    @pytest.fixture
    def make_sink(self, uri: str) -> Callable[[SinkContext], Sink]:
        # Every test's run has the same id: each gets an experiment of its own.
        options = {"tracking_uri": uri, "experiment": f"contract-{uuid.uuid4().hex[:8]}"}
        return lambda context: load("mlflow").make_sink(context, options)

    @pytest.fixture
    def stored(self, direct_uri: str, tmp_path: Path) -> Callable[[SinkContext, Mapping[str, Any]], Stored]:
        return lambda context, state: Reader(direct_uri, str(state["id"]), tmp_path / "downloads").stored()


class TestDatabase(MlflowContract):
    @pytest.fixture
    def uri(self, sqlite_uri: str) -> str:
        return sqlite_uri

    @pytest.fixture
    def direct_uri(self, sqlite_uri: str) -> str:
        return sqlite_uri


class TestServer(MlflowContract):
    @pytest.fixture
    def gate(self, server: MlflowServer) -> Iterator[TcpGate]:
        gate = TcpGate(int(server.uri.rpartition(":")[2]))
        yield gate
        gate.close()

    @pytest.fixture
    def uri(self, gate: TcpGate) -> str:
        return f"http://127.0.0.1:{gate.port}"

    @pytest.fixture
    def direct_uri(self, server: MlflowServer) -> str:
        return server.uri

    @pytest.fixture
    def outage(self, gate: TcpGate) -> Any:
        return gate.shut
