"""What W&B has of an offline run: the records in its directories' transaction logs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import wandb
from wandb.proto import wandb_internal_pb2 as pb

from rl_logging_wandb.registry import Link
from rl_logging_wandb.stores import Check
from rl_logging_wandb.transaction_log import TransactionLog


class OfflineStore:
    """The directories of one offline run, oldest first; a killed run and its continuation have one each.

    Args:
        fragments: The directories.

    Attributes:
        ended: Whether the last directory's log has the run's end.
        outage: None: a file can always be asked.
    """

    def __init__(self, fragments: Iterable[Path]) -> None:
        self.last_step = -1
        self.config: dict[str, Any] = {}
        self._summary: dict[tuple[str, ...], str] = {}
        self.tags: tuple[str, ...] = ()
        self.notes: str | None = None
        self.ended = False
        self.outage: str | None = None
        self._digests: set[str] = set()
        self._files: set[str] = set()
        self._logs: list[TransactionLog] = []
        self._goes_on = False
        for fragment in fragments:
            self._add(fragment)

    def go_on_in(self, fragment: Path) -> None:
        """Reads another directory from now on: the run goes on there, whatever end the earlier ones have.

        What it has of a summary is of no use until the run is opened again, and not looked at: it is two thirds of
        all there is.
        """
        self.ended = False
        self._goes_on = True
        self._add(fragment)

    def _add(self, fragment: Path) -> None:
        run_id = fragment.name.split("-", 3)[3]
        found = sorted(fragment.glob("run-*.wandb"))
        self._logs.append(TransactionLog(found[0] if found else fragment / f"run-{run_id}.wandb"))

    @property
    def summary(self) -> dict[str, Any]:
        """The summary, as far as it was read."""
        summary: dict[str, Any] = {}
        for keys, value_json in self._summary.items():
            _put(summary, list(keys), json.loads(value_json))
        return summary

    def refresh(self) -> None:
        """Reads what has been written since."""
        for log in self._logs:
            for record in log.read():
                self._take(record)

    def has_file(self, name: str, size: int) -> bool:
        """Says whether the log names the file, which W&B copies before it does so."""
        return name in self._files

    def file(self, path: Path, name: str, send: Callable[[], object]) -> Check:
        """See `Store.file`."""
        return lambda: name in self._files

    def artifact(
        self,
        make: Callable[[], wandb.Artifact],
        send: Callable[[wandb.Artifact], wandb.Artifact],
        link: Link | None = None,
    ) -> Check:
        """See `Store.artifact`; one of equal content is the same."""
        artifact = make()
        digest = artifact.digest
        if digest not in self._digests:
            send(artifact)
        return lambda: digest in self._digests

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
        elif kind == "summary" and not self._goes_on:
            for item in record.summary.update:
                # Each row changes it; what it is in the end is decoded once.
                self._summary[tuple(item.nested_key) or (item.key,)] = item.value_json
        elif kind == "artifact":
            self._digests.add(record.artifact.digest)
        elif kind == "files":
            self._files.update(item.path for item in record.files.files)
        elif kind == "exit":
            self.ended = True

    def _take_config(self, config: pb.ConfigRecord) -> None:
        for item in config.update:
            _put(self.config, list(item.nested_key) or [item.key], json.loads(item.value_json))


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
