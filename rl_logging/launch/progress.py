"""What the training process knows of its run's delivery."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import DestinationState, destinations, states
from rl_logging.bundle.rewinds import branches


class Progress:
    """What is known in the training process of one run's delivery; changed by delivery, awaited by the logger.

    Args:
        bundle: The run.
        warn: Called with a sink's name and a message the user must see.
    """

    def __init__(self, bundle: Bundle, warn: Callable[[str, str], None]) -> None:
        self._warn = warn
        self._change = threading.Condition()
        self._names = {entry.key: entry.name for entry in destinations(bundle)}
        self._branch = len(branches(bundle))
        self._parts = 0
        self.states: dict[str, DestinationState] = {key: state for key, (_, state, _) in states(bundle).items()}
        self.moved_at = time.monotonic()

    def changed(self, key: str, state: DestinationState) -> None:
        """A destination has a new state."""
        with self._change:
            if state.branch < self._branch:
                return  # told by whoever still delivers what was logged before the run went back
            before = self.states.get(key)
            if before is None or before.confirmed != state.confirmed or before.phase != state.phase != "backoff":
                self.moved_at = time.monotonic()
            self.states[key] = state
            self._change.notify_all()

    def warned(self, key: str, message: str) -> None:
        """A destination's sink told something, or what `key` says where it is no destination's."""
        self._warn(self._names.get(key, key or "delivery"), message)

    def joined(self) -> None:
        """One more part delivers."""
        with self._change:
            self._parts += 1

    def left(self) -> None:
        """A part has ended."""
        with self._change:
            self._parts -= 1
            self._change.notify_all()

    @property
    def active(self) -> bool:
        """Whether anything still delivers."""
        return self._parts > 0

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until `done()` or for `timeout_s`; returns what `done()` says then."""
        with self._change:
            return self._change.wait_for(done, timeout_s)
