"""What W&B has: read from an offline run's files, or asked of the server. Nothing else makes a record confirmed."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import wandb
from wandb.proto import wandb_internal_pb2 as pb

from rl_logging_wandb.transaction_log import TransactionLog

_log = logging.getLogger("rl_logging.wandb")

POLL_INTERVAL_S: Final = 1.0
"""Least time between two questions to the server."""

API_TIMEOUT_S: Final = 5


class Store(Protocol):
    """The side that acknowledges.

    Attributes:
        last_step: The highest ``_step`` that is stored, -1 for none; rows are stored in order.
        config: The stored config's top-level keys.
        tags: The stored tags.
        notes: The stored notes, None for none.
    """

    last_step: int
    config: dict[str, Any]
    tags: tuple[str, ...]
    notes: str | None

    def refresh(self) -> None:
        """Looks anew, unless it did so a moment ago."""

    def has_file(self, name: str, size: int) -> bool:
        """Says whether the run has the file `name` of `size` bytes."""

    def has_artifact(self, artifact: wandb.Artifact) -> bool:
        """Says whether an artifact of the same content is stored with this run."""


class OfflineStore:
    """The directories of one offline run, oldest first; a killed run and its continuation have one each.

    Args:
        fragments: The directories.

    Attributes:
        ended: Whether the last directory's log has the run's end.
    """

    def __init__(self, fragments: Iterable[Path]) -> None:
        self.last_step = -1
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.tags: tuple[str, ...] = ()
        self.notes: str | None = None
        self.ended = False
        self._digests: set[str] = set()
        self._files: set[str] = set()
        self._logs: list[TransactionLog] = []
        for fragment in fragments:
            self.add(fragment)

    def add(self, fragment: Path) -> None:
        """Reads another directory from now on: the run goes on there, whatever end the earlier ones have."""
        self.ended = False
        run_id = fragment.name.split("-", 3)[3]
        found = sorted(fragment.glob("run-*.wandb"))
        self._logs.append(TransactionLog(found[0] if found else fragment / f"run-{run_id}.wandb"))

    def refresh(self) -> None:
        """Reads what has been written since."""
        for log in self._logs:
            for record in log.read():
                self._take(record)

    def has_file(self, name: str, size: int) -> bool:
        """Says whether the log names the file, which W&B copies before it does so."""
        return name in self._files

    def has_artifact(self, artifact: wandb.Artifact) -> bool:
        """Says whether the log names an artifact of this content."""
        return artifact.digest in self._digests

    def _take(self, record: pb.Record) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "history":
            self.last_step = max(self.last_step, _step_of(record.history))
        elif kind == "run":
            self._take_config(record.run.config)
            self.tags = tuple(record.run.tags)
            self.notes = record.run.notes or None
        elif kind == "config":
            self._take_config(record.config)
        elif kind == "summary":
            for item in record.summary.update:
                _put(self.summary, list(item.nested_key) or [item.key], json.loads(item.value_json))
        elif kind == "artifact":
            self._digests.add(record.artifact.digest)
        elif kind == "files":
            self._files.update(item.path for item in record.files.files)
        elif kind == "exit":
            self.ended = True

    def _take_config(self, config: pb.ConfigRecord) -> None:
        for item in config.update:
            _put(self.config, list(item.nested_key) or [item.key], json.loads(item.value_json))


class OnlineStore:
    """The server, asked at most once a second.

    Args:
        path: ``entity/project/id``.
        base_url: The server.
        last_step: The highest stored ``_step`` when the run was opened, -1 for none.
        warn: Takes a sentence for the user.
    """

    def __init__(self, path: str, base_url: str, last_step: int, warn: Callable[[str], None]) -> None:
        self.last_step = last_step
        self.config: dict[str, Any] = {}
        self.tags: tuple[str, ...] = ()
        self.notes: str | None = None
        self._path = path
        self._base_url = base_url
        self._warn = warn
        self._api: wandb.Api | None = None
        self._asked_at = -POLL_INTERVAL_S
        self._wanted: set[str] = set()
        self._files: dict[str, int] = {}
        self._failed: set[str] = set()

    def refresh(self) -> None:
        """Asks the server; where that fails, what is known stays, and the next call asks again."""
        if time.monotonic() - self._asked_at < POLL_INTERVAL_S:
            return
        try:
            self._ask()
        except Exception as error:  # any failure of the SDK means only that nothing new is known
            _log.info("asking W&B what it has of %s failed: %s", self._path, error)
        self._asked_at = time.monotonic()

    def has_file(self, name: str, size: int) -> bool:
        """Says whether the server has the whole file; a name it was not yet asked for, it will be asked next time."""
        if self._files.get(name) == size:
            self._wanted.discard(name)
            return True
        self._wanted.add(name)
        return False

    def has_artifact(self, artifact: wandb.Artifact) -> bool:
        """Says whether the server has committed the artifact; what was not handed over in this process, it has not."""
        if not artifact.is_draft():
            return True
        key = f"{artifact.name}@{artifact.digest}"
        if key in self._failed:
            return False
        try:
            artifact.wait(timeout=0)
        except Exception as error:
            if type(error) is ValueError:
                # So the SDK gives the server's words on an upload that failed for good. All else means: not there
                # yet, not handed over yet (an AttributeError), or the server is away.
                self._failed.add(key)
                self._warn(f"W&B did not take the artifact {artifact.name}: {error}")
            _log.debug("W&B does not say that it has the artifact %s: %r", artifact.name, error)
            return False
        return True

    def _ask(self) -> None:
        if self._api is None:
            self._api = wandb.Api(overrides={"base_url": self._base_url}, timeout=API_TIMEOUT_S)
        else:
            self._api.flush()
        run = self._api.run(self._path)
        self.last_step = max(self.last_step, int(run.lastHistoryStep))
        self.config = dict(run.config)
        self.tags = tuple(run.tags or ())
        self.notes = run.notes or None
        if self._wanted:
            self._files.update({file.name: int(file.size) for file in run.files(sorted(self._wanted))})


def _step_of(history: pb.HistoryRecord) -> int:
    if history.HasField("step"):
        return int(history.step.num)
    steps = (item for item in history.item if "_step" in (item.key, *item.nested_key))
    return int(next((json.loads(item.value_json) for item in steps), -1))


def _put(target: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = target.get(key)
        if not isinstance(inner, dict):
            inner = target[key] = {}
        target = inner
    target[keys[-1]] = value


def without_internals(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `values` without W&B's own keys, which begin with an underscore."""
    return {key: value for key, value in values.items() if not key.startswith("_")}
