"""The sink: one run, as a file of JSON lines with a folder of files beside it."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from rl_logging.media import MediaError, materialize
from rl_logging.records import (
    Artifact,
    Config,
    Environment,
    Image,
    Labels,
    Metrics,
    Model,
    Record,
    RunStatus,
    Video,
    body_of,
)
from rl_logging.sinks import RejectedError, SinkContext, TransientError

WORDS: frozenset[type[Record]] = frozenset({Metrics, Config, Labels})
FILES: frozenset[type[Record]] = frozenset({Image, Video, Model, Artifact, Environment})


# begin start
class JsonLinesSink:
    """Writes one run to ``<folder>/<run id>/records.jsonl``.

    Args:
        context: The run.
        folder: Where all runs go.
        files: Whether to keep images, videos, models and artifacts too.
    """

    def __init__(self, context: SinkContext, folder: Path, *, files: bool = True) -> None:
        self.accepts = WORDS | FILES if files else WORDS
        self._context = context
        self._folder = folder / context.run_id
        self._path = self._folder / "records.jsonl"
        self._file: FileIO | None = None
        self._end = 0  # bytes up to the end of the last whole line
        self._stored = 0  # seq of the last record in the file

    # end start
    # begin open
    def open(self, state: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Opens the run's file, and finds out what it has already."""
        self.close(None)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(self._path, "a+")
            self._recover(self._file)
            self._note("running")
        except OSError as error:
            raise TransientError(f"{self._path} cannot be opened: {error}") from error
        return {"id": self._context.run_id, "url": str(self._path)}

    def _recover(self, file: FileIO) -> None:
        """Reads what an earlier delivery wrote; a line that it did not finish is cut off."""
        self._end = self._stored = 0
        for line in self._path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            self._end += len(line)
            self._stored = json.loads(line)["seq"]
        file.truncate(self._end)

    # end open
    # begin write
    def write(self, batch: Sequence[Record], /) -> None:
        """Appends what is not there yet, and returns when the disk has it."""
        lines: list[bytes] = []
        refused: list[Record] = []
        reasons: list[str] = []
        for record in batch:
            if record.seq <= self._stored:
                continue  # it was handed over before
            try:
                self._keep_files(record)
            except (FileNotFoundError, MediaError) as error:
                refused.append(record)
                reasons.append(str(error))
            except OSError as error:
                raise TransientError(f"{self._folder} takes no files: {error}") from error
            else:
                lines.append(_line(record))
        self._append(b"".join(lines))
        self._stored = max(self._stored, batch[-1].seq)
        if refused:
            raise RejectedError("; ".join(reasons), refused)

    def _append(self, data: bytes) -> None:
        """Writes `data` behind the last whole line: all of it, or nothing."""
        assert self._file is not None, "write() before open()"
        try:
            if self._file.write(data) != len(data):
                raise OSError("the disk is full")
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(self._end)
            raise TransientError(f"{self._path} cannot be written: {error}") from error
        self._end += len(data)

    # end write
    # begin files
    def _keep_files(self, record: Record) -> None:
        """Copies what a record points to into a folder that is named by its seq."""
        for source in self._sources(record):
            target = self._folder / "files" / str(record.seq) / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(source, target)

    def _sources(self, record: Record) -> list[Path]:
        """Returns the files and folders that a record points to."""
        if isinstance(record, (Image, Video)):
            return [materialize(self._context.run_dir, record)]
        if isinstance(record, (Model, Artifact)):
            return [self._context.run_dir / record.path]
        if isinstance(record, Environment):
            return [self._context.run_dir / path for path in (record.path, record.patch) if path is not None]
        return []

    # end files
    # begin confirmed
    def confirmed(self) -> int:
        """Returns the seq of the last record that the disk has."""
        return self._stored

    # end confirmed
    # begin close
    def close(self, status: RunStatus | None, /) -> None:
        """Notes the status, if there is one, and lets go of the file."""
        if self._file is None:
            return
        if status is not None:
            try:
                self._note(status)
            except OSError as error:
                raise TransientError(f"{self._folder} cannot be written: {error}") from error
        self._file.close()
        self._file = None

    def _note(self, status: str) -> None:
        """Writes what the run is called, and how it stands, to ``run.json``."""
        run = {"id": self._context.run_id, "name": self._context.name, "status": status}
        new = self._folder / "run.json.new"
        new.write_text(json.dumps(run), encoding="utf-8")
        new.replace(self._folder / "run.json")


# end close
# begin line
def _line(record: Record) -> bytes:
    """Returns a record as a line of JSON."""
    row = {
        "seq": record.seq,
        "time": record.time,
        "step": record.step,
        "kind": record.kind,
        "body": _jsonable(body_of(record)),
    }
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def _jsonable(value: Any) -> Any:
    """Returns `value` with NaN and the infinities as text, which `float()` reads: JSON has no numbers for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(entry) for entry in value]
    return value


# end line
