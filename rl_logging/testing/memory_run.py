"""A run in this process's memory, and how the parts of a configuration become one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_logging.records import Config, Metrics, Record, RunStatus
from rl_logging.sinks import SinkContext


class MemoryRun:
    """One run as a `MemoryStore` holds it.

    Attributes:
        records: What is stored, by seq, in the order of arrival.
        handed: The seqs of all that was handed over, repeats included, in order.
        batches: The same, batch by batch.
        opens: The state each `open` was given; None for a first one.
        closes: The status each `close` was given.
        status: ``running``, or what it was ended with.
        threads: Names of the threads that called.
    """

    def __init__(self, context: SinkContext) -> None:
        self.context = context
        self.records: dict[int, Record] = {}
        self.handed: list[int] = []
        self.batches: list[tuple[int, ...]] = []
        self.opens: list[Mapping[str, Any] | None] = []
        self.closes: list[RunStatus | None] = []
        self.status = "running"
        self.threads: set[str] = set()
        self.last = 0

    @property
    def points(self) -> list[tuple[str, int | None, float]]:
        """All scalars as (name, step, value)."""
        rows = [record for record in list(self.records.values()) if isinstance(record, Metrics)]
        return [(name, row.step, value) for row in rows for name, value in row.values.items()]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, all parts together."""
        merged: dict[str, Any] = {}
        for record in list(self.records.values()):
            if isinstance(record, Config):
                merge(merged, record.values)
        return merged


def merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Adds a part of a configuration to what there is, key by key; the later value of a key wins."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            inner = into.get(key)
            if not isinstance(inner, dict):
                inner = into[key] = {}
            merge(inner, value)
        else:
            into[key] = value
