"""The contract of every sink: offline, read back from W&B's own files, and online, read back from a server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from rl_logging.plugins import load
from rl_logging.sinks import Sink, SinkContext
from rl_logging.testing import SinkContract, Stored, StoredFile, StoredFolder, StoredPoint
from rl_logging.testing.contract.ending import EndingTests
from rl_logging.testing.contract.faults import FaultTests
from rl_logging.testing.contract.names import NameTests
from rl_logging.testing.contract.replay import ReplayTests
from rl_logging_wandb import service
from tests.support import wandb_file
from tests.support.wandb_server import API_KEY, WandbServer
from tests.support.wandb_sink import isolated, wandb_core_children

STATUSES: Final = {0: "finished", 1: "failed", 255: "killed"}
MEDIA: Final = {"images": "image-file", "videos": "video-file"}
QUICK: Final = {
    "x_transaction_log_flush_interval": 0.05,
    "x_file_stream_transmit_interval": 1.0,  # the client takes whole seconds
    "x_save_requirements": False,
    "init_timeout": 60.0,
}


@pytest.fixture(scope="module", autouse=True)
def wandb_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Has all tests here share one wandb-core, which takes most of a second to start."""
    with isolated(tmp_path_factory.mktemp("wandb-folders")):
        service.acquire("shared")
        yield
        service.release("shared")
    assert wandb_core_children() == []


def points_of(rows: Sequence[Mapping[str, Any]]) -> list[StoredPoint]:
    return [
        StoredPoint(name, row.get("global_step"), value)
        for row in rows
        for name, value in row.items()
        if not name.startswith("_") and name != "global_step" and isinstance(value, (int, float))
    ]


def media_of(
    rows: Sequence[Mapping[str, Any]], media_type: str, content: Callable[[str], bytes | None]
) -> list[StoredFile]:
    return [
        StoredFile(name, row.get("global_step"), content(value["path"]))
        for row in rows
        for name, value in row.items()
        if isinstance(value, Mapping) and value.get("_type") == media_type
    ]


def folder_of(name: str, run_id: str, files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> StoredFolder:
    # An artifact is called by its name and the run's id; where the name had to be changed, the ledger tells both.
    record = json.loads(files["record.json"])
    plain = name.removesuffix(f"-{run_id}")
    return StoredFolder(plain if plain == record["name"] else name, record["step"], files, metadata)


def read_offline(context: SinkContext, state: Mapping[str, Any]) -> Stored:
    fragments = [Path(fragment) for fragment in state["fragments"]]
    run = wandb_file.read(fragments)

    def content(path: str) -> bytes | None:
        found = [fragment / "files" / path for fragment in fragments if (fragment / "files" / path).is_file()]
        return found[0].read_bytes() if found and path in run.files else None

    folders: dict[str, list[StoredFolder]] = {"model": []}
    for told in run.artifacts:
        files = {name: path.read_bytes() for name, path in told["files"].items()}
        folders.setdefault(told["type"], []).append(folder_of(told["name"], state["id"], files, told["metadata"]))
    return Stored(
        points=points_of(run.rows),
        config=run.config,
        **{attribute: media_of(run.rows, media_type, content) for attribute, media_type in MEDIA.items()},
        models=folders.pop("model"),
        artifacts=[folder for found in folders.values() for folder in found],
        tags=run.tags,
        notes=run.notes,
        environment=[path for path in run.files if "/" not in path],
        status=STATUSES[run.exit_codes[-1]] if run.exit_codes else "running",
    )


class TestOffline(SinkContract):
    timeout_s = 60.0

    @pytest.fixture
    def make_sink(self, tmp_path: Path) -> Callable[[SinkContext], Sink]:
        options = {"mode": "offline", "dir": str(tmp_path / "logs"), "settings": QUICK}
        return lambda context: load("wandb").make_sink(context, options)

    @pytest.fixture
    def stored(self) -> Callable[[SinkContext, Mapping[str, Any]], Stored]:
        return read_offline


def read_online(server: WandbServer, state: Mapping[str, Any]) -> Stored:
    run = server.runs[state["id"]]
    folders: dict[str, list[StoredFolder]] = {"model": []}
    for artifact in server.artifacts.values():
        if artifact.state == "COMMITTED":
            metadata = json.loads(artifact.input["metadata"] or "{}")
            folder = folder_of(artifact.name, state["id"], artifact.files, metadata)
            folders.setdefault(artifact.input["artifactTypeName"], []).append(folder)
    return Stored(
        points=points_of(run.rows),
        config={key: value for key, value in run.config.items() if key != "_wandb"},
        **{attribute: media_of(run.rows, media_type, run.files.get) for attribute, media_type in MEDIA.items()},
        models=folders.pop("model"),
        artifacts=[folder for found in folders.values() for folder in found],
        tags=run.fields.get("tags") or [],
        notes=run.fields.get("notes"),
        environment=[path for path in run.files if "/" not in path],
        status=STATUSES[run.exit_code or 0] if run.complete else "running",
    )


class TestOnline(ReplayTests, FaultTests):
    """The parts where online is another matter than offline: what a server has, opened again, and away.

    Rows come a second at the soonest and files five seconds later; the whole suite would take minutes.
    """

    timeout_s = 60.0

    test_odd_names_arrive_under_some_name = NameTests.test_odd_names_arrive_under_some_name
    test_letting_go_does_not_end_the_run = EndingTests.test_letting_go_does_not_end_the_run
    test_an_ended_run_can_be_opened_and_ended_again = EndingTests.test_an_ended_run_can_be_opened_and_ended_again

    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
        monkeypatch.setenv("WANDB_API_KEY", API_KEY)
        with WandbServer() as server:
            yield server

    @pytest.fixture
    def make_sink(self, tmp_path: Path, server: WandbServer) -> Callable[[SinkContext], Sink]:
        options = {"mode": "online", "dir": str(tmp_path / "logs"), "base_url": server.url, "settings": QUICK}
        return lambda context: load("wandb").make_sink(context, options)

    @pytest.fixture
    def stored(self, server: WandbServer) -> Callable[[SinkContext, Mapping[str, Any]], Stored]:
        return lambda context, state: read_online(server, state)

    @pytest.fixture
    def outage(self, server: WandbServer) -> Callable[[], contextlib.AbstractContextManager[object]]:
        @contextlib.contextmanager
        def away() -> Iterator[None]:
            server.refuse = 503
            yield
            server.refuse = None

        return away
