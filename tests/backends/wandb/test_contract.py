"""The contract of every sink, offline, read back from W&B's own files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from rl_logging.plugins import load
from rl_logging.sinks import Sink, SinkContext
from rl_logging.testing import SinkContract, Stored, StoredFile, StoredFolder, StoredPoint
from rl_logging_wandb import service
from tests.support import wandb_file
from tests.support.wandb_sink import wandb_core_children

STATUSES: Final = {0: "finished", 1: "failed", 255: "killed"}
MEDIA: Final = {"images": "image-file", "videos": "video-file"}
QUICK: Final = {
    "x_transaction_log_flush_interval": 0.05,
    "x_file_stream_transmit_interval": 1.0,  # the client takes whole seconds
    "x_save_requirements": False,
    "init_timeout": 2.0,
}


@pytest.fixture(scope="module", autouse=True)
def wandb_environment() -> Iterator[None]:
    """Has all tests here share one wandb-core, which takes most of a second to start."""
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
    @pytest.fixture
    def make_sink(self, tmp_path: Path) -> Callable[[SinkContext], Sink]:
        options = {"mode": "offline", "dir": str(tmp_path / "logs"), "settings": QUICK}
        return lambda context: load("wandb").make_sink(context, options)

    @pytest.fixture
    def stored(self) -> Callable[[SinkContext, Mapping[str, Any]], Stored]:
        return read_offline
