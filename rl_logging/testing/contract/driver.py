"""Driving a sink as delivery does: what it takes from the caller is patience, not judgement."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import pytest

from rl_logging.records import Record, RunStatus
from rl_logging.sinks import RejectedError, Sink, SinkContext, TransientError

T = TypeVar("T")
POLL_S: Final = 0.02


class Driver:
    """One sink object and what was done with it.

    Args:
        sink: The object.
        context: The context it was made with.
        timeout_s: For how long to be patient with a `TransientError`, or with `confirmed`.

    Attributes:
        state: What `open` returned, as JSON gives it back.
        handed: The highest seq that was handed over to this object.
    """

    def __init__(self, sink: Sink, context: SinkContext, timeout_s: float) -> None:
        self.sink = sink
        self.context = context
        self.timeout_s = timeout_s
        self.state: dict[str, Any] = {}
        self.handed = 0
        self._confirmed = 0

    def open(self, state: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Opens the sink with a state that has been through JSON, and returns the new one likewise."""
        kept = None if state is None else as_json(state)
        self.state = as_json(self._patiently("open", lambda: self.sink.open(kept)))
        return self.state

    def write(self, records: Sequence[Record]) -> None:
        """Hands over those of `records` that the sink accepts, again while it raises `TransientError`.

        Raises:
            RejectedError: The sink refuses some.
        """
        wanted = [record for record in records if type(record) in self.sink.accepts]
        if wanted:
            try:
                self._patiently("write", lambda: self.sink.write(wanted))
            finally:
                self.handed = max(self.handed, wanted[-1].seq)

    def deliver(self, records: Sequence[Record]) -> None:
        """Hands `records` over and waits until they are confirmed.

        Raises:
            RejectedError: The sink refuses some, at once or later.
        """
        self.write(records)
        self.settle()

    def settle(self) -> None:
        """Waits until the sink confirms the last record that was handed over."""
        deadline = time.monotonic() + self.timeout_s
        never = threading.Event()
        while self.confirmed() < self.handed:
            if time.monotonic() > deadline:
                pytest.fail(
                    f"confirmed() stayed at {self._confirmed} for {self.timeout_s:g} s, although all up to seq "
                    f"{self.handed} was handed over"
                )
            never.wait(POLL_S)

    def confirmed(self) -> int:
        """Returns what the sink confirms, and checks that it never goes back.

        Raises:
            RejectedError: The store has refused some that were handed over earlier.
        """
        told = self._patiently("confirmed", self.sink.confirmed)
        assert isinstance(told, int), f"confirmed() returned a {type(told).__name__}, not a seq"
        assert told >= self._confirmed, f"confirmed() went back from {self._confirmed} to {told}"
        self._confirmed = told
        return told

    def close(self, status: RunStatus | None) -> None:
        """Closes the sink."""
        self._patiently("close", lambda: self.sink.close(status))

    def _patiently(self, what: str, call: Callable[[], T]) -> T:
        deadline = time.monotonic() + self.timeout_s
        never = threading.Event()
        while True:
            try:
                return call()
            except TransientError as error:
                if time.monotonic() > deadline:
                    pytest.fail(f"{what}() still raises TransientError after {self.timeout_s:g} s: {error}")
                never.wait(POLL_S)
            except RejectedError as error:
                if what in ("open", "close"):
                    pytest.fail(f"{what}() raised RejectedError: {error}")
                if what == "confirmed":
                    self._check_late(error)
                raise

    def _check_late(self, error: RejectedError) -> None:
        seqs = [record.seq for record in error.records]
        assert seqs, "confirmed() raised RejectedError without the records it is about"
        wrong = [seq for seq in seqs if not self._confirmed < seq <= self.handed]
        assert not wrong, f"confirmed() raised RejectedError about {wrong}, confirmed before or never handed over"


def as_json(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a sink's state as it comes back from the file it is kept in."""
    try:
        text = json.dumps(state, allow_nan=False)
    except (TypeError, ValueError) as error:
        pytest.fail(f"open() must return JSON values, to be kept in a file; it returned {state!r}: {error}")
    kept = json.loads(text)
    assert kept == _with_lists(state), "what open() returned is something else once it was kept as JSON"
    return dict(kept)


def _with_lists(value: Any) -> Any:
    """Returns `value` with tuples as lists: the one change by JSON that harms nobody."""
    if isinstance(value, Mapping):
        return {key: _with_lists(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_lists(entry) for entry in value]
    return value
