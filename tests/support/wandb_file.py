"""Reading W&B's offline runs back: the directory as one object, decoded from its transaction log from end to end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK = 32768


@dataclass
class OfflineRun:
    """What one or several directories of an offline run hold, in order.

    Attributes:
        rows: History rows, with ``_step``, ``_timestamp`` and the rest of W&B's own keys.
        config: The config's keys but for W&B's own.
        summary: The summary as W&B derived it.
        artifacts: One mapping an artifact: name, type, aliases, metadata, digest, files (path inside → local path).
        files: Names of run files the log tells to upload.
        exit_codes: One for each exit record.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    notes: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    commit: str = ""
    step_metrics: dict[str, str] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)

    def series(self, key: str) -> list[tuple[Any, Any]]:
        """Returns (global_step, value) of every row that has `key`."""
        return [(row.get("global_step"), row[key]) for row in self.rows if key in row]


def read(directories: Path | Iterable[Path]) -> OfflineRun:
    """Returns what the offline run's directories hold; given a folder W&B was pointed at, all of its runs'."""
    if isinstance(directories, Path):
        directories = [directories] if list(directories.glob("run-*.wandb")) else offline_directories(directories)
    run = OfflineRun()
    for directory in directories:
        (log,) = directory.glob("run-*.wandb")
        for payload in _payloads(log.read_bytes()):
            _take(run, Record.FromString(payload))
    for internal in ("_wandb", "_rl_logging"):
        run.config.pop(internal, None)
    return run


def offline_directories(root: Path) -> list[Path]:
    """Returns the offline runs below ``root/wandb``, oldest first."""
    return sorted((root / "wandb").glob("offline-run-*"), key=lambda path: path.name)


def _payloads(data: bytes) -> list[bytes]:
    """Returns the whole records of a log, leaving out the file's own header and an unfinished end."""
    assert data[:4] == b":W&B", "no W&B transaction log"
    whole, parts = [], []
    for block_start in range(0, len(data), _BLOCK):
        block = data[block_start : block_start + _BLOCK]
        at = 7 if block_start == 0 else 0
        while at + 7 <= len(block):
            length = int.from_bytes(block[at + 4 : at + 6], "little")
            kind = block[at + 6]
            chunk = block[at + 7 : at + 7 + length]
            if len(chunk) < length:
                break
            parts.append(chunk)
            at += 7 + length
            if kind in (1, 4):
                whole.append(b"".join(parts))
                parts = []
    return whole


def _take(run: OfflineRun, record: Record) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        told = record.run
        run.tags, run.notes, run.name, run.project = list(told.tags), told.notes, told.display_name, told.project
        run.group, run.job_type, run.commit = told.run_group, told.job_type, told.git.commit
        _merge(run.config, told.config.update)
    elif kind == "config":
        _merge(run.config, record.config.update)
    elif kind == "summary":
        _merge(run.summary, record.summary.update)
    elif kind == "history":
        row: dict[str, Any] = {}
        _merge(row, record.history.item)
        run.rows.append(row)
    elif kind == "metric":
        run.step_metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
    elif kind == "files":
        run.files += [item.path for item in record.files.files]
    elif kind == "exit":
        run.exit_codes.append(record.exit.exit_code)
    elif kind == "artifact":
        told = record.artifact
        run.artifacts.append(
            {
                "name": told.name,
                "type": told.type,
                "digest": told.digest,
                "aliases": list(told.aliases),
                "metadata": json.loads(told.metadata or "{}"),
                "files": {entry.path: Path(entry.local_path) for entry in told.manifest.contents},
            }
        )


def _merge(target: dict[str, Any], items: Iterable[Any]) -> None:
    for item in items:
        *outer, last = list(item.nested_key) or [item.key]
        place = target
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = json.loads(item.value_json)
