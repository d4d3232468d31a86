"""Keeping the account of one destination: its state, changed from several places, saved and told to others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from rl_logging.bundle.destination import EXAMPLES, DestinationFile, DestinationState, Phase
from rl_logging.records import Record, body_of

SAVE_EVERY_S: Final = 0.5
IDLE_SAVE_S: Final = 0.1


class Book:
    """The state of one destination while it is being delivered; also the `Ledger` its sink writes to.

    Args:
        file: Where the state is kept.
        tell: Called with the state whenever it was saved.
        warn: Called with a message that the user must see.
    """

    def __init__(
        self, file: DestinationFile, tell: Callable[[DestinationState], None], warn: Callable[[str], None]
    ) -> None:
        self._file = file
        self._tell = tell
        self._warn = warn
        self._lock = threading.RLock()
        self._saved_at = 0.0
        self._changed = False
        self._set_aside = file.seqs_set_aside()
        self._ours = False
        self.state = file.load()

    def take(self) -> None:
        """Reads the state anew; from now on, under the destination's lock, it is this account's to keep."""
        with self._lock:
            self._file.begin_branch()
            self._set_aside = self._file.seqs_set_aside()
            self.state = self._file.load()
            self._ours = True

    def give_up(self) -> None:
        """The account is another process's now."""
        with self._lock:
            self._ours = False

    def follow(self, note: str) -> bool:
        """Reads and tells what another process has delivered, with a `note`; True where it has got any further."""
        with self._lock:
            before, self.state = self.state.confirmed, self._file.load()
            moved = self.state.confirmed > before
            self.state.phase, self.state.last_error = "waiting", note
            self._tell(self.state)
            return moved

    def is_forgotten(self) -> bool:
        """Whether the user has given the destination up."""
        self.state.forgotten = self._file.is_forgotten()
        return self.state.forgotten

    def save(self) -> None:
        """Keeps the state now and tells it; before `take` it is another process's, and is only told."""
        with self._lock:
            self._saved_at = time.monotonic()
            self._changed = False
            try:
                if self._ours:
                    self._file.save(self.state)
            except OSError as error:  # a full disk: tried again with the next change; a repeat does no harm
                self._changed = True
                self.warn(f"what was delivered cannot be noted: {error}")
            self._tell(self.state)

    def save_soon(self) -> None:
        """Keeps the state unless that was done a moment ago; `save_if_changed` then makes up for it."""
        self._changed = True
        if time.monotonic() - self._saved_at >= SAVE_EVERY_S:
            self.save()

    def save_if_changed(self, *, at_once: bool = False) -> None:
        """Keeps the state if it has changed since it was last kept, which was not just now unless it is `at_once`."""
        if self._changed and (at_once or time.monotonic() - self._saved_at >= IDLE_SAVE_S):
            self.save()

    def phase(self, phase: Phase, error: str | None = None) -> None:
        """Says what the worker does now, and what went wrong (None: nothing any more)."""
        with self._lock:
            if (self.state.phase, self.state.last_error) != (phase, error):
                self.state.phase = phase
                self.state.last_error = error
                self.save()

    def set_aside(self, record: Record, reason: str) -> None:
        """Keeps a record the store will never take."""
        row: dict[str, Any] = {
            "seq": record.seq,
            "time": record.time,
            "step": record.step,
            "kind": record.kind,
            "reason": reason,
            "body": body_of(record),
        }
        with self._lock:
            if record.seq in self._set_aside:
                return
            first = not self._set_aside
            self._set_aside.add(record.seq)
            try:
                self._file.set_aside(row)
            except OSError as error:
                self.warn(f"a refused record (seq {record.seq}) cannot be noted: {error}")
            if first:
                self._warn(f"refused a {record.kind} record (seq {record.seq}): {reason}")

    def renamed(self, name: str, stored_as: str) -> None:
        """See `Ledger.renamed`."""
        with self._lock:
            if len(self.state.renamed) < EXAMPLES:
                self.state.renamed.setdefault(name, stored_as)
                self._changed = True

    def truncated(self, name: str, detail: str) -> None:
        """See `Ledger.truncated`."""
        with self._lock:
            if len(self.state.truncated) < EXAMPLES:
                self.state.truncated.setdefault(name, detail)
                self._changed = True

    def merged(self, count: int, detail: str) -> None:
        """See `Ledger.merged`; `detail` is for the log."""
        with self._lock:
            self.state.merged += count
            self._changed = True

    def warn(self, message: str) -> None:
        """See `Ledger.warn`."""
        with self._lock:
            if message in self.state.warnings:
                return
            if len(self.state.warnings) < EXAMPLES:
                self.state.warnings.append(message)
        self._warn(message)
