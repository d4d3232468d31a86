"""The run's clock, as the logger's verbs read and move it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

MOST: Final = 2**63 - 1

Read = Callable[[], "int | None"]


class StepClock:
    """Gives each record its step.

    Args:
        warn: Called with a key and a message about a step that is none.

    Attributes:
        read: The clock of an adapter whose training goes on; None without one.
    """

    def __init__(self, warn: Callable[[str, str], None]) -> None:
        self._warn = warn
        self._highest = -1
        self._pinned: int | None = None
        # Re-entrant: a signal handler may log in the middle of a call.
        self._lock = threading.RLock()
        self.read: Read | None = None
        self._rests_at: int | None = None
        self._restored: int | None = None

    @property
    def now(self) -> int:
        """Where the clock stands: pinned, the adapter's, or the highest step seen; 0 before any."""
        if self._pinned is not None:
            return self._pinned
        at = self._read_adapters()
        return max(self._highest, 0) if at is None else at

    def go_on_from(self, step: int) -> None:
        """Counts on from `step`, the highest of an earlier part of the run."""
        self._highest = max(self._highest, step)

    def attach(self, read: Read | int | None) -> None:
        """Takes an adapter's clock; the step at which its training has ended, where the clock stays; or None."""
        self.read, self._rests_at = (None, read) if isinstance(read, int) else (read, None)

    def go_back_to(self, step: object) -> None:
        """Counts on from `step`, wherever the clock stands, and has the next training begin there."""
        checked = self._checked(step)
        if checked is not None:
            self._highest = self._restored = checked
            self._rests_at = None

    def take_restored(self) -> int | None:
        """Returns, once, the step that was gone back to."""
        restored, self._restored = self._restored, None
        return restored

    def pin(self, step: object) -> None:
        """Stamps step-less calls with `step` from now on; None lets them count up again."""
        self._pinned = None if step is None else self._checked(step)
        if self._pinned is not None:
            self._highest = max(self._highest, self._pinned)

    def stamp(self, step: object, *, advance: bool = True) -> int:
        """Returns the step of one record.

        Args:
            step: What the caller gave; None for the clock's own.
            advance: Whether a step-less call is a step of its own, where nothing else is the clock.
        """
        if step is not None:
            if type(step) is int and -MOST <= step <= MOST:
                given: int | None = step
            else:
                given = self._checked(step)
            if given is not None:
                if given > self._highest:
                    self._highest = given
                return given
        if self._pinned is not None or self.read is not None or self._rests_at is not None or not advance:
            return self.now
        with self._lock:
            self._highest += 1
            return self._highest

    def forget(self) -> None:
        """Takes a new lock in a forked child."""
        self._lock = threading.RLock()

    def _read_adapters(self) -> int | None:
        if self.read is None:
            return self._rests_at
        try:
            return self.read()
        except Exception as error:
            self._warn("clock", f"the adapter's clock cannot be read: {error!r}; step-less calls count up instead")
            return None

    def _checked(self, step: object) -> int | None:
        try:
            number = int(step)  # type: ignore[call-overload]
            if number == step and -MOST <= number <= MOST:
                return int(number)
        except Exception:  # a user's object may do anything when it is asked for a number; the message says what it is
            pass
        self._warn("step", f"step: got {step!r}, may be an integer below 2**63; the clock's own step is used instead")
        return None
