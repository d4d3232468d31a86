"""A store in a file, one line of JSON per record, and the sink that delivers to it.

For tests that end processes: what is in the file outlives whoever wrote it, and faults are switched on and off from
any process by making and removing files.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rl_logging.media import MediaError, materialize
from rl_logging.records import KINDS, Config, End, Image, Metrics, Record, RunStatus, Video, body_of
from rl_logging.sinks import RejectedError, SinkContext, TransientError
from rl_logging.testing.memory_run import merge
from rl_logging.testing.options import refuse_unknown

POLL_S: Final = 0.02
HANG_S: Final = 60.0
OPTIONS: Final = ("path", "down_while", "hang_while", "hold_while", "refuse")


class FileSink:
    """Delivers runs to a file: appended in one write a batch, fsynced, and confirmed from what the file holds.

    Several runs, and several processes, may share a file.

    Args:
        context: The run.
        path: The file; what records point to is copied to a folder of that name with ``.files`` added.
        down_while: While this file exists, `open` and `write` raise `TransientError`.
        hang_while: While this file exists, `write` waits (a minute at most).
        hold_while: While this file exists, `confirmed` stays where it was.
        refuse: Metrics of these names, and other records of these names, are rejected.
    """

    accepts: frozenset[type[Record]] = frozenset(KINDS.values()) - {End}

    def __init__(
        self,
        context: SinkContext,
        path: str | os.PathLike[str],
        *,
        down_while: str | os.PathLike[str] | None = None,
        hang_while: str | os.PathLike[str] | None = None,
        hold_while: str | os.PathLike[str] | None = None,
        refuse: Sequence[str] = (),
    ) -> None:
        self._context = context
        self._store = FileStore(path)
        self._down_while = _maybe_path(down_while)
        self._hang_while = _maybe_path(hang_while)
        self._hold_while = _maybe_path(hold_while)
        self._refuse = frozenset(refuse)
        self._fd = -1
        self._stored: set[int] = set()
        self._last = 0
        self._told = 0

    def open(self, state: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """See `rl_logging.sinks.Sink.open`; learns from the file what is there already."""
        self._check_up()
        self._store.path.parent.mkdir(parents=True, exist_ok=True)
        rows = self._store.rows(self._context.run_id)
        self._stored = {row["seq"] for row in rows if row["seq"]}
        self._last = self._told = max(self._stored, default=0)
        self._let_go()
        self._fd = os.open(self._store.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        opened = sum(row["kind"] == "open" for row in rows) + 1
        self._append([self._row(0, "open", {"pid": os.getpid(), "opened": opened})])
        return {"id": self._context.run_id, "url": str(self._store.path), "opened": opened}

    def write(self, batch: Sequence[Record], /) -> None:
        """See `rl_logging.sinks.Sink.write`."""
        self._check_up()
        self._hang()
        rows, refused, why = [], [], "the store does not take this name"
        for record in batch:
            if record.seq in self._stored:
                continue
            if self._refuse & _names(record):
                refused.append(record)
                continue
            try:
                self._copy(record)
            except (OSError, MediaError) as error:
                refused.append(record)
                why = f"its file cannot be read: {error}"
                continue
            body = body_of(record)
            rows.append(self._row(record.seq, record.kind, body, step=record.step, time=record.time))
        self._append(rows)
        self._stored.update(row["seq"] for row in rows)
        self._last = max([self._last, *(record.seq for record in batch)])
        if refused:
            raise RejectedError(why, refused)

    def confirmed(self) -> int:
        """See `rl_logging.sinks.Sink.confirmed`."""
        if self._hold_while is None or not self._hold_while.exists():
            self._told = self._last
        return self._told

    def close(self, status: RunStatus | None, /) -> None:
        """See `rl_logging.sinks.Sink.close`."""
        if self._fd >= 0:
            if status is not None:
                self._append([self._row(0, "close", {"status": status})])
            self._let_go()

    def _row(
        self, seq: int, kind: str, body: Mapping[str, Any], step: int | None = None, time: float | None = None
    ) -> dict[str, Any]:
        return {"run": self._context.run_id, "seq": seq, "time": time, "step": step, "kind": kind, "body": body}

    def _append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        if not self._store.ends_with_a_line():
            data = b"\n" + data  # a kill in the middle of a write left a line unfinished
        try:
            written = os.write(self._fd, data)
            os.fsync(self._fd)
        except OSError as error:
            raise TransientError(f"{self._store.path} cannot be written: {error}") from error
        if written != len(data):
            raise TransientError(f"{self._store.path} took {written} of {len(data)} bytes")

    def _copy(self, record: Record) -> None:
        for source in self._sources(record):
            target = self._store.folder_of(self._context.run_id, record.seq) / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(source, target)

    def _sources(self, record: Record) -> list[Path]:
        if isinstance(record, (Image, Video)):
            return [materialize(self._context.run_dir, record)]
        paths = (getattr(record, "path", None), getattr(record, "patch", None))
        return [self._context.run_dir / path for path in paths if path is not None]

    def _check_up(self) -> None:
        if self._down_while is not None and self._down_while.exists():
            raise TransientError("the store is down")

    def _hang(self) -> None:
        if self._hang_while is None:
            return
        never = threading.Event()
        deadline = time.monotonic() + HANG_S
        while self._hang_while.exists():
            if time.monotonic() > deadline:
                raise TransientError(f"the store hung for {HANG_S:g} s")
            never.wait(POLL_S)

    def _let_go(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class FileStore:
    """Reads what `FileSink` wrote, from whatever process.

    Args:
        path: The file; it need not be there yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()

    def rows(self, run_id: str | None = None) -> list[dict[str, Any]]:
        """Returns the lines as mappings ``run, seq, time, step, kind, body``, of one run or of all.

        Beside the records' kinds there are ``open`` and ``close``, with seq 0. A line that is not whole is left out.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        rows = []
        for line in lines:
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and run_id in (None, row.get("run")):
                    rows.append(row)
        return rows

    def seqs(self, run_id: str | None = None) -> list[int]:
        """Returns the records' seqs, in the order of arrival, repeats included."""
        return [row["seq"] for row in self.rows(run_id) if row["seq"]]

    def points(self, run_id: str | None = None) -> list[tuple[str, int | None, float]]:
        """Returns all scalars as (name, step, value)."""
        rows = [row for row in self.rows(run_id) if row["kind"] == Metrics.kind]
        return [(name, row["step"], value) for row in rows for name, value in row["body"].items()]

    def config(self, run_id: str | None = None) -> dict[str, Any]:
        """Returns the configuration, all parts together."""
        merged: dict[str, Any] = {}
        for row in self.rows(run_id):
            if row["kind"] == Config.kind:
                merge(merged, row["body"])
        return merged

    def status(self, run_id: str | None = None) -> str | None:
        """Returns ``running``, or what the run was ended with last; None for a run that is not there."""
        status = None
        for row in self.rows(run_id):
            if row["kind"] == "open":
                status = "running"
            elif row["kind"] == "close":
                status = row["body"]["status"]
        return status

    def folder_of(self, run_id: str, seq: int) -> Path:
        """Returns the folder that holds what a record pointed to."""
        return self.path.with_name(f"{self.path.name}.files") / run_id / str(seq)

    def wait_for(self, true: Callable[[FileStore], bool], timeout_s: float = 60.0) -> bool:
        """Waits until `true(store)`, looking every few milliseconds; returns what it says then."""
        never = threading.Event()
        deadline = time.monotonic() + timeout_s
        while not true(self):
            if time.monotonic() > deadline:
                return true(self)
            never.wait(POLL_S)
        return True

    def ends_with_a_line(self) -> bool:
        """Whether the file is empty or its last line is whole."""
        try:
            with open(self.path, "rb") as file:
                if file.seek(0, os.SEEK_END) == 0:
                    return True
                file.seek(-1, os.SEEK_END)
                return file.read(1) == b"\n"
        except FileNotFoundError:
            return True


def make(name: str, context: SinkContext, options: Mapping[str, Any]) -> FileSink:
    """Makes a `FileSink`: a factory for ``{factory: "rl_logging.testing.files:make", path: FILE}``.

    Args:
        name: The sink's name.
        context: The run.
        options: ``path``, and `FileSink`'s other arguments.

    Raises:
        RejectedError: ``path`` is missing, or another option was given.
    """
    refuse_unknown(name, options, OPTIONS)
    if "path" not in options:
        raise RejectedError(f"{name}.path: is missing: which file to write to")
    return FileSink(context, **options)


def _names(record: Record) -> set[str]:
    return set(record.values) if isinstance(record, Metrics) else {getattr(record, "name", "")}


def _maybe_path(path: str | os.PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)
