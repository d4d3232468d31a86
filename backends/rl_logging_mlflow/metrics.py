"""Metrics: the points of many records in few requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rl_logging.records import Metrics, Record
from rl_logging.sinks import Ledger
from rl_logging_mlflow.batches import chunks, json_size, sift
from rl_logging_mlflow.memory import Memory
from rl_logging_mlflow.names import NameTable, clean_key
from rl_logging_mlflow.remote import RefusedError, RemoteRun

MAX_POINTS = 1000
MAX_STEP = 2**63 - 1

_LARGEST = 1.7976931348623157e308


class _Point(NamedTuple):
    entity: Any
    record: Metrics
    name: str


class _Place(NamedTuple):
    """Where and what a point is to MLflow: two equal ones are one."""

    timestamp_ms: int
    step: int
    value: float | None


class MetricsWriter:
    """Sends `Metrics` records.

    A point's step is a whole number always (a record without one is at 0) and its time the record's, so that what is
    sent twice is stored once where the store has a database.

    Args:
        remote: The run.
        memory: Keeps the names.
        ledger: Is told of names, merged points and infinities.
    """

    def __init__(self, remote: RemoteRun, memory: Memory, ledger: Ledger) -> None:
        self._remote = remote
        self._memory = memory
        self._ledger = ledger
        self._names = NameTable(clean_key, ledger, memory.kept.metrics, remote.metrics)
        self._last: dict[str, _Place] = {}
        self._infinite: set[str] = set()

    def write(self, records: Sequence[Metrics]) -> list[tuple[Record, str]]:
        """Sends all points of `records`; returns the records of which something was refused, and why.

        Raises:
            TransientError: Not now.
            RejectedError: The run takes nothing any more.
        """
        refused: list[tuple[Record, str]] = []
        fitting = []
        for record in records:
            if record.step is not None and not -MAX_STEP - 1 <= record.step <= MAX_STEP:
                refused.append((record, f"step {record.step} is outside MLflow's range of 64-bit whole numbers"))
            else:
                fitting.append(record)
        if self._names.add({name for record in fitting for name in record.values}):
            # Kept before anything is stored under it, or a repeat after a crash could go to another name.
            self._memory.save()
        points, last, merged = self._points(fitting)
        for chunk in chunks(points, MAX_POINTS, lambda point: json_size(point.entity.key)):
            for point, error in sift(chunk, self._send, RefusedError):
                refused.append((point.record, f"metric '{point.name}' at step {point.entity.step}: {error}"))
        self._last.update(last)
        if merged:
            self._ledger.merged(merged, "equal values of one metric at one step within one millisecond")
        return refused

    def _send(self, points: Sequence[_Point]) -> None:
        self._remote.log_batch(metrics=[point.entity for point in points])

    def _points(self, records: Sequence[Metrics]) -> tuple[list[_Point], dict[str, _Place], int]:
        from mlflow.entities import Metric

        points: list[_Point] = []
        last: dict[str, _Place] = {}
        seen: set[tuple[str, _Place]] = set()
        merged = 0
        for record in records:
            timestamp_ms, step = int(record.time * 1000), int(record.step or 0)
            for name, value in record.values.items():
                key = self._names[name]
                place = _Place(timestamp_ms, step, None if value != value else value)
                if (key, place) in seen or self._last.get(key) == place:
                    merged += 1
                    continue
                seen.add((key, place))
                last[key] = place
                if abs(value) > _LARGEST and name not in self._infinite:
                    self._infinite.add(name)
                    self._ledger.truncated(name, "an infinite value is stored as 1.797e308 with its sign")
                points.append(_Point(Metric(key, float(value), timestamp_ms, step), record, name))
        return points, last, merged
