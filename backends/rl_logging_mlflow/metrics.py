"""Metrics: the points of many records in few requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from rl_logging.records import Metrics, Record
from rl_logging.sinks import Ledger
from rl_logging_mlflow.batches import chunks, json_size, sift
from rl_logging_mlflow.memory import Memory
from rl_logging_mlflow.names import NameTable, clean_key
from rl_logging_mlflow.remote import RefusedError, RemoteRun

MAX_POINTS = 1000
MAX_STEP = 2**63 - 1

_LARGEST = 1.7976931348623157e308


_Point: TypeAlias = "tuple[Any, Metrics, str]"
"""MLflow's entity, the record it is of, and the metric's name there. No class: there are a thousand to a request."""

_Moments: TypeAlias = "dict[tuple[int, int], set[tuple[str, float | None]]]"
"""By millisecond and step, the names and values of one moment, None for NaN: two equal ones are one to MLflow."""


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
        self._moments: _Moments = {}
        self._merged = 0
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
        moments = {moment: set(known) for moment, known in self._moments.items()}
        self._merged = 0
        for chunk in chunks(self._points(fitting, moments), MAX_POINTS, lambda point: json_size(point[0].key)):
            for (entity, record, name), error in sift(chunk, self._send, RefusedError):
                refused.append((record, f"metric '{name}' at step {entity.step}: {error}"))
        if self._merged:
            self._ledger.merged(self._merged, "equal values of one metric at one step within one millisecond")
        # Time does not go back: only what was of the last millisecond can come again.
        latest_ms = max((timestamp_ms for timestamp_ms, _ in moments), default=0)
        self._moments = {moment: known for moment, known in moments.items() if moment[0] == latest_ms}
        return refused

    def _send(self, points: Sequence[_Point]) -> None:
        self._remote.log_batch(metrics=[entity for entity, _, _ in points])

    def _points(self, records: Sequence[Metrics], moments: _Moments) -> Iterator[_Point]:
        """Yields the points that are not in `moments` yet, and puts them there."""
        from mlflow.entities import Metric

        for record in records:
            timestamp_ms, step = int(record.time * 1000), int(record.step or 0)
            known = moments.setdefault((timestamp_ms, step), set())
            for name, value in record.values.items():
                place = (name, value if value == value else None)
                if place in known:
                    self._merged += 1
                    continue
                known.add(place)
                if abs(value) > _LARGEST and name not in self._infinite:
                    self._infinite.add(name)
                    self._ledger.truncated(name, "an infinite value is stored as 1.797e308 with its sign")
                yield Metric(self._names[name], float(value), timestamp_ms, step), record, name
