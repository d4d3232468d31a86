"""Which uploads wandb-core gave up, read from its own log: the SDK tells nobody."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import msgspec

_TASK_PATH: Final = re.compile(r"\bPath: (.*?), Name: ", re.DOTALL)
_STATUS: Final = re.compile(r"(?:returned error|status:?) (\d{3})\b")
_NOT_FOR_GOOD: Final = (401, 408, 409, 423, 425, 429)
"""A key can be renewed, and the others say themselves that it is a matter of time."""


READ_BYTES: Final = 1 << 20
"""How much of the log is read at once."""


class Failure(msgspec.Struct, frozen=True):
    """An upload that was given up.

    Attributes:
        words: What wandb-core says of it.
    """

    words: str

    @property
    def for_good(self) -> bool:
        """Whether the server's answer was one that trying again does not change."""
        return refuses(self.words)


def refuses(words: str) -> bool:
    """Says whether `words` of wandb-core report an answer by which the server refuses, rather than fails.

    An answer of GraphQL's own, which has no HTTP status, begins with ``input:``.
    """
    statuses = [int(status) for status in _STATUS.findall(words)]
    if statuses:
        return refusal(statuses[-1])
    return bool(re.search(r"(?:^|: )input: ", words))


def refusal(status: int) -> bool:
    """Says whether an HTTP status is one by which the server refuses, rather than fails."""
    return 400 <= status < 500 and status not in _NOT_FOR_GOOD


class CoreLog:
    """A reader of ``debug-internal.log`` that goes on where it stopped.

    Args:
        path: The log; where it is not there, nothing ever failed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._failures: dict[str, Failure] = {}

    def take(self, file: str) -> Failure | None:
        """Returns how the upload of the local `file` failed since this was last asked, None if it did not."""
        self._read()
        return self._failures.pop(file, None)

    def _read(self) -> None:
        try:
            with self._path.open("rb") as log:
                log.seek(self._offset)
                while data := log.read(READ_BYTES):
                    whole, end, _ = data.rpartition(b"\n")
                    if not end and len(data) < READ_BYTES:
                        return  # the line is still being written
                    # A line that is longer than what is read at once tells of no upload, and is passed over.
                    self._offset += len(whole) + 1 if end else len(data)
                    log.seek(self._offset)
                    for line in whole.splitlines():
                        if b'"ERROR"' in line and b"UploadTask{" in line:
                            self._note(line)
        except OSError:
            return

    def _note(self, line: bytes) -> None:
        try:
            told: Any = json.loads(line)
        except ValueError:
            return
        path = _TASK_PATH.search(str(told.get("task", "")))
        if path is not None:
            self._failures[path[1]] = Failure(str(told.get("msg", "")))
