"""Deadlines of a sink's calls that pass when a test says so, and not by the clock: however slow the machine is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import pytest

from rl_logging.delivery import bounded

WAIT_S: Final = 60.0


class _Over(threading.Event):
    """Set when a call has returned, or its deadline has passed."""

    late = False

    def wait(self, timeout: float | None = None) -> bool:
        assert super().wait(WAIT_S), "a call has not returned, and no test has let its deadline pass"
        return not self.late


class Deadline:
    """The deadline of whatever call one worker makes of its sink.

    Args:
        patch: Puts it in the clock's place.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        deadline = self
        self._over = _Over()

        class Call(bounded._Call):
            def __init__(self, function: Callable[[], object]) -> None:
                super().__init__(function)
                self.over = deadline._over = _Over()

        patch.setattr(bounded, "_Call", Call)

    def passes(self) -> None:
        """The call that is on its way has not returned in time."""
        self._over.late = True
        self._over.set()
