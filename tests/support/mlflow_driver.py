"""Drives the MLflow sink as a delivery worker would, and reads back with MLflow's own client."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from PIL import Image as Pillow

from rl_logging.hookspecs import Surroundings
from rl_logging.plugins import load
from rl_logging.records import Record
from rl_logging.sinks import Program, Sink, SinkContext

CREATED = 1_700_000_000.25


def with_paths() -> dict[str, str]:
    """Returns the environment for a Python of its own that is to import this project and its tests."""
    root = Path(__file__).parents[2]
    paths = [str(root), str(root / "backends"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@dataclass
class Store:
    """A store's tracking URI."""

    uri: str


@dataclass
class ListLedger:
    """Keeps what a sink tells."""

    names: list[tuple[str, str]] = field(default_factory=list)
    cut: list[tuple[str, str]] = field(default_factory=list)
    merges: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def renamed(self, name: str, stored_as: str) -> None:
        self.names.append((name, stored_as))

    def truncated(self, name: str, detail: str) -> None:
        self.cut.append((name, detail))

    def merged(self, count: int, detail: str) -> None:
        self.merges.append(count)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


class Bench:
    """One bundle, one store, and the sink between them.

    Args:
        uri: The store's tracking URI.
        run_dir: The run directory; made.
        options: Further options; the experiment is a new one where none is given.
        context: Fields of the context that differ.
    """

    def __init__(self, uri: str, run_dir: Path, options: Mapping[str, Any] | None = None, **context: Any) -> None:
        self.uri = uri
        self.run_dir = run_dir
        self.ledger = ListLedger()
        self.state: dict[str, Any] | None = None
        self.experiment = f"experiment-{uuid.uuid4().hex[:8]}"
        self.options: dict[str, Any] = {"tracking_uri": uri, "experiment": self.experiment, **(options or {})}
        self._context = context
        self.bundle_id = uuid.uuid4().hex[:8]
        self.client: MlflowClient | None = None
        (run_dir / "sinks").mkdir(parents=True, exist_ok=True)

    def sink(self) -> Sink:
        """Returns a new sink, not open yet."""
        program = Program(pid=1, argv=("train.py",), cwd=str(self.run_dir), executable="python", main="train.py")
        fields: dict[str, Any] = {
            "run_dir": self.run_dir,
            "run_id": self.bundle_id,
            "name": "my run",
            "project": None,
            "group": None,
            "tags": (),
            "notes": None,
            "created": CREATED,
            "program": program,
            "live": True,
            "ledger": self.ledger,
        }
        plugin = load("mlflow")
        around = Surroundings(project=None, cwd=self.run_dir, environ={})
        resolved = plugin.resolve_options(self.options, around)
        resolved.pop("notices", None)
        return plugin.make_sink(SinkContext(**{**fields, **self._context}), resolved)

    def open(self) -> Sink:
        """Returns a new sink, opened with the state of the last one."""
        sink = self.sink()
        self.state = dict(sink.open(self.state))
        self.client = MlflowClient(tracking_uri=self.uri)
        return sink

    def deliver(self, records: Sequence[Record], status: Any = "finished") -> Sink:
        """Opens, writes one batch, closes."""
        sink = self.open()
        sink.write(records)
        sink.close(status)
        return sink

    @property
    def run_id(self) -> str:
        """The run's id in MLflow."""
        assert self.state is not None
        return str(self.state["id"])

    def run(self) -> Any:
        """Returns the run as MLflow has it."""
        assert self.client is not None
        return self.client.get_run(self.run_id)

    def history(self, key: str) -> list[tuple[int, float, int]]:
        """Returns a metric's points as (step, value, milliseconds), in MLflow's order."""
        assert self.client is not None
        points = self.client.get_metric_history(self.run_id, key)
        return [(point.step, point.value, point.timestamp) for point in points]

    def files(self, folder: str | None = None) -> dict[str, int]:
        """Returns all artifacts below `folder` and their sizes."""
        assert self.client is not None
        found: dict[str, int] = {}
        for entry in self.client.list_artifacts(self.run_id, folder):
            found |= self.files(entry.path) if entry.is_dir else {entry.path: entry.file_size}
        return found

    def text(self, path: str) -> str:
        """Returns a text artifact."""
        assert self.client is not None
        return Path(self.client.download_artifacts(self.run_id, path)).read_text(encoding="utf-8")

    def place(self, path: str, content: bytes | str) -> str:
        """Writes a file into the run directory; returns `path`."""
        target = self.run_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def place_png(self, path: str, size: tuple[int, int] = (40, 20)) -> str:
        """Writes a PNG into the run directory; returns `path`."""
        target = self.run_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        Pillow.new("RGB", size, (200, 30, 30)).save(target)
        return path
