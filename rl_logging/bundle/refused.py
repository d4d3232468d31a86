"""Records that a store has refused: a line each in ``<key>.rejected.jsonl``, their only copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from rl_logging.journal.segment import MAX_PAYLOAD_BYTES

MAX_LINE_BYTES: Final = 2 * MAX_PAYLOAD_BYTES


def add_refused(path: Path, row: dict[str, Any]) -> None:
    """Adds a line to the file at `path`."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def refused_seqs(path: Path) -> set[int]:
    """Returns the seqs of the records in the file at `path`; none where there is no such file."""
    seqs: set[int] = set()
    try:
        if not path.is_file():
            return seqs
        with open(path, "rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                row = _row_or_none(line)
                if row is not None:
                    seqs.add(row.seq)
    except FileNotFoundError:
        pass
    return seqs


class _Row(msgspec.Struct):
    """What counts of a line."""

    seq: int


def _row_or_none(line: bytes) -> _Row | None:
    try:
        return msgspec.json.decode(line, type=_Row)
    except (msgspec.DecodeError, RecursionError):
        return None  # a line that a kill left unfinished
