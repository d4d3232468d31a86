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

from rl_logging_wandb.core_log import CoreLog
from rl_logging_wandb.registry import Link
from rl_logging_wandb.transaction_log import TransactionLog
from rl_logging_wandb.uploads import ArtifactUpload, FileUpload

_log = logging.getLogger("rl_logging.wandb")

POLL_INTERVAL_S: Final = 1.0
"""Least time between two questions to the server."""

FAILED_INTERVAL_S: Final = 5.0
"""The same after one that was not answered, which can take `API_TIMEOUT_S` for each of up to three requests."""

API_TIMEOUT_S: Final = 5

UNANSWERED_WARN_S: Final = 60.0

SILENT_AFTER_S: Final = 10.0
"""How long a server may fail to answer before that is an outage."""

Check = Callable[[], bool]
"""Says whether something is stored; raises `uploads.RefusedError` if it never will be."""


class Store(Protocol):
    """The side that acknowledges.

    Attributes:
        last_step: The highest ``_step`` that is stored, -1 for none; rows are stored in order.
    """

    last_step: int

    @property
    def config(self) -> dict[str, Any]:
        """The stored config's top-level keys."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The stored tags."""

    @property
    def notes(self) -> str | None:
        """The stored notes, None for none."""

    def refresh(self) -> None:
        """Looks anew, unless it did so a moment ago."""

    def has_file(self, name: str, size: int) -> bool:
        """Says whether the run has the file `name` of `size` bytes."""

    def file(self, path: Path, name: str, send: Callable[[], object]) -> Check:
        """Returns how to find out whether the run has the file `name`, which was handed over.

        Args:
            path: The local file.
            name: Its name in the run.
            send: Hands it over again.
        """

    def artifact(
        self,
        make: Callable[[], wandb.Artifact],
        send: Callable[[wandb.Artifact], wandb.Artifact],
        link: Link | None = None,
    ) -> Check:
        """Hands an artifact over unless it is stored with this run.

        Args:
            make: Makes it.
            send: Hands it over.
            link: Links it to a registry, once it is stored; offline there is none.

        Returns:
            How to find out whether it is stored.
        """


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


class OnlineStore:
    """The server, asked at most once a second.

    Args:
        path: ``entity/project/id``.
        base_url: The server.
        last_step: The highest stored ``_step`` when the run was opened, -1 for none.
        core_log: What wandb-core says of uploads.
        warn: Takes a sentence for the user.

    Attributes:
        outage: Why nothing can be known of the server, where it has not answered for a while; else None.
    """

    def __init__(
        self, path: str, base_url: str, last_step: int, core_log: CoreLog, warn: Callable[[str], None]
    ) -> None:
        self.last_step = last_step
        self._config: dict[str, Any] = {}
        self._tags: tuple[str, ...] = ()
        self._notes: str | None = None
        self._fields_wanted = False
        self._path = path
        self._base_url = base_url
        self._core_log = core_log
        self._warn = warn
        self._api: wandb.Api | None = None
        self._run: Any = None
        self._ask_at = 0.0
        self._answered_at = time.monotonic()
        self._failing_since: float | None = None
        self.outage: str | None = None
        self._wanted: set[str] = set()
        self._files: dict[str, int] = {}

    # Whoever looks at these wants them fresh the next time; otherwise the server is asked for the rows alone.

    @property
    def config(self) -> dict[str, Any]:
        """The stored config's top-level keys."""
        self._fields_wanted = True
        return self._config

    @config.setter
    def config(self, config: dict[str, Any]) -> None:
        self._config = config

    @property
    def tags(self) -> tuple[str, ...]:
        """The stored tags."""
        self._fields_wanted = True
        return self._tags

    @property
    def notes(self) -> str | None:
        """The stored notes, None for none."""
        self._fields_wanted = True
        return self._notes

    def refresh(self) -> None:
        """Asks the server; where that fails, what is known stays, and a later call asks again."""
        if time.monotonic() < self._ask_at:
            return
        try:
            self._ask()
        except Exception as error:  # any failure of the SDK means only that nothing new is known
            _log.info("asking W&B what it has of %s failed: %s", self._path, error)
            now = time.monotonic()
            self._ask_at = now + FAILED_INTERVAL_S
            self._failing_since = now if self._failing_since is None else self._failing_since
            if now - self._failing_since > SILENT_AFTER_S:
                self.outage = f"W&B does not answer: {error or type(error).__name__}"
            if now - self._answered_at > UNANSWERED_WARN_S:
                self._warn(
                    f"W&B does not say what it has of {self._path}: {type(error).__name__}; what was sent stays owed "
                    "until it does"
                )
        else:
            self._answered_at = time.monotonic()
            self._failing_since = self.outage = None
            self._ask_at = self._answered_at + POLL_INTERVAL_S

    def has_file(self, name: str, size: int) -> bool:
        """Says whether the server has the whole file; a name it was not yet asked for, it will be asked next time."""
        if self._files.get(name) == size:
            self._wanted.discard(name)
            return True
        self._wanted.add(name)
        return False

    def file(self, path: Path, name: str, send: Callable[[], object]) -> Check:
        """See `Store.file`; what wandb-core gives up is sent again."""
        size = path.stat().st_size
        self.has_file(name, size)  # so that it is asked for from the first time on
        return FileUpload(path, send, lambda: self.has_file(name, size), self._core_log).is_stored

    def artifact(
        self,
        make: Callable[[], wandb.Artifact],
        send: Callable[[wandb.Artifact], wandb.Artifact],
        link: Link | None = None,
    ) -> Check:
        """See `Store.artifact`; sent again, one of equal content stays one version."""
        return ArtifactUpload(make, send, self._core_log, link, self._warn).is_stored

    def _ask(self) -> None:
        if self._api is None:
            self._api = wandb.Api(overrides={"base_url": self._base_url}, timeout=API_TIMEOUT_S)
        if self._run is None or self._fields_wanted or self._wanted:
            # The SDK keeps what it was answered.
            self._api.flush()
            self._run = self._api.run(self._path)
            self._config = dict(self._run.config)
            self._tags = tuple(self._run.tags or ())
            self._notes = self._run.notes or None
            self._fields_wanted = False
        if self._wanted:
            self._files.update({file.name: int(file.size) for file in self._run.files(sorted(self._wanted))})
        self.last_step = max(self.last_step, int(self._run.lastHistoryStep))


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
