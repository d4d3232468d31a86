"""Where a sink under test tells what it changed."""

from __future__ import annotations

import threading


class MemoryLedger:
    """A `rl_logging.sinks.Ledger` that keeps what it is told.

    Attributes:
        renames: What the store calls the names it does not take.
        truncations: What the store has only in part, and how.
        merges: How many points became part of others.
        warnings: The messages, in order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.renames: dict[str, str] = {}
        self.truncations: dict[str, str] = {}
        self.merges = 0
        self.warnings: list[str] = []

    def renamed(self, name: str, stored_as: str) -> None:
        """See `rl_logging.sinks.Ledger.renamed`."""
        with self._lock:
            self.renames.setdefault(name, stored_as)

    def truncated(self, name: str, detail: str) -> None:
        """See `rl_logging.sinks.Ledger.truncated`."""
        with self._lock:
            self.truncations.setdefault(name, detail)

    def merged(self, count: int, detail: str) -> None:
        """See `rl_logging.sinks.Ledger.merged`."""
        with self._lock:
            self.merges += count

    def warn(self, message: str) -> None:
        """See `rl_logging.sinks.Ledger.warn`."""
        with self._lock:
            self.warnings.append(message)

    def mentions(self, name: str) -> bool:
        """Whether anything that was told is about `name`."""
        with self._lock:
            return name in self.renames or name in self.truncations or any(name in message for message in self.warnings)
