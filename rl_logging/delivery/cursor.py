"""How far a destination has come: what was read and is not settled yet, in order."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Container

from rl_logging.bundle.destination import DestinationState


class Outcome(enum.Enum):
    """What became of a record that was read."""

    HANDED = enum.auto()
    REFUSED = enum.auto()
    SKIPPED = enum.auto()
    PASSED = enum.auto()
    SUPERSEDED = enum.auto()
    END = enum.auto()


class Cursor:
    """Moves a destination's `confirmed` over what is settled, and counts it; never past what the store has not.

    Args:
        state: The destination's state, changed in place.

    Attributes:
        values: How many values the records hold that are not settled.
    """

    def __init__(self, state: DestinationState) -> None:
        self._state = state
        self._pending: deque[tuple[int, Outcome, int]] = deque()
        self.values = 0
        self._handed = 0

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def last(self) -> int:
        """The last record that was noted or, where all are settled, that the store has."""
        return self._pending[-1][0] if self._pending else self._state.confirmed

    @property
    def awaits_the_store(self) -> bool:
        """Whether something was handed over that the store has not confirmed."""
        return self._handed > 0

    def add(self, seq: int, outcome: Outcome, values: int = 1) -> None:
        """Notes what became of the next record, which holds so many `values`."""
        self._pending.append((seq, outcome, values))
        self.values += values
        self._handed += outcome is Outcome.HANDED

    def refuse(self, seqs: Container[int]) -> list[int]:
        """Notes that the store refuses what it was handed earlier; returns the seqs that this is true of."""
        refused = []
        for index, (seq, outcome, values) in enumerate(self._pending):
            if outcome is Outcome.HANDED and seq in seqs:
                self._pending[index] = (seq, Outcome.REFUSED, values)
                self._handed -= 1
                refused.append(seq)
        return refused

    def settle(self, confirmed: int) -> bool:
        """Moves on to what the store has confirmed; True where that was any further."""
        state, before = self._state, self._state.confirmed
        while self._pending:
            seq, outcome, values = self._pending[0]
            if outcome is Outcome.HANDED and seq > confirmed:
                break
            self._pending.popleft()
            self.values -= values
            state.confirmed = seq
            state.delivered += outcome in (Outcome.HANDED, Outcome.END)
            state.skipped += outcome is Outcome.SKIPPED
            state.superseded += outcome is Outcome.SUPERSEDED
            state.rejected += outcome is Outcome.REFUSED
            self._handed -= outcome is Outcome.HANDED
        return state.confirmed > before
