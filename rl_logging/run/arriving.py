"""Records whose values are still on a device: kept in the order of their calls, accepted when the values are there."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

log = logging.getLogger("rl_logging")

MOST: Final = 10_000
"""Calls whose values are awaited at once. CUDA itself stops a program that is some thousand operations ahead of its
device, so that this many are the sign of a device that has stopped."""

_LOOK_EVERY_S: Final = 0.001


class Arriving(Protocol):
    """Values on their way, as `rl_logging.run.device_copies.Copy`."""

    def arrived(self) -> bool:
        """Whether they are there."""
        ...

    def wait(self) -> None:
        """Waits until they are."""
        ...

    def figures(self) -> list[float]:
        """Returns them."""
        ...


Accept = Callable[[list[float]], None]
Start = Callable[[Sequence[Any]], Arriving]


class _Held(NamedTuple):
    values: Arriving
    accept: Accept


class ArrivingRecords:
    """Holds records until their values are there.

    A thread waits for them, one after the other. Where the driver does not let it, the next call looks instead.

    Args:
        start: Starts the copy of some tensors.
        may_wait: Called in that thread; whether it may wait there.
        warn: Called with a key and a message when a record's values will not come.

    Attributes:
        lost: How many records' values did not come.
    """

    def __init__(self, start: Start, may_wait: Callable[[], bool], warn: Callable[[str, str], None]) -> None:
        self._start = start
        self._may_wait = may_wait
        self._warn = warn
        self._held: deque[_Held] = deque()
        self._taking = threading.RLock()
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.lost = 0

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, tensors: Sequence[Any], accept: Accept) -> None:
        """Starts the values' copy and returns; `accept` gets them once they are there, in the order of the calls.

        Args:
            tensors: Of one element each.
            accept: Called once, by another thread or a later call; not at all where they do not come, which is told.
        """
        if len(self._held) >= MOST:
            self._lose(f"{MOST:,} records wait for it already; later ones are not kept until it goes on")
            return
        try:
            values = self._start(tensors)
        except Exception as error:  # the device's errors are the training's to see, in its own next call
            self._lose(str(error))
            return
        self._held.append(_Held(values, accept))
        self._wakes.put(True)
        if not self._waiter().is_alive():
            self.take()

    def take(self, timeout_s: float = -1) -> None:
        """Accepts what has arrived, up to the first that has not; another thread that does it is given so long."""
        if not self._taking.acquire(timeout=timeout_s):
            return
        try:
            while self._held:
                held = self._held[0]
                try:
                    if not held.values.arrived():
                        return
                    figures = held.values.figures()
                except Exception as error:
                    self._held.popleft()
                    self._lose(str(error))
                    continue
                self._held.popleft()
                held.accept(figures)
        finally:
            self._taking.release()

    def settle(self, timeout_s: float) -> bool:
        """Waits until everything held is accepted; returns whether it is."""
        deadline = time.monotonic() + timeout_s
        while self._held:
            self.take(max(0.0, deadline - time.monotonic()))
            if self._held:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_LOOK_EVERY_S)
        return True

    def close(self, timeout_s: float) -> None:
        """Waits as `settle` does; what has not arrived by then is lost, which is told."""
        if not self.settle(timeout_s):
            self._lose(f"{len(self._held)} records had not arrived when the run ended", len(self._held))
        self._wakes.put(False)

    def forget(self) -> None:
        """In a forked child, which must not touch the device: nothing is awaited any more, and nothing given back."""
        self._kept_for_the_parent = self._held
        self._held = deque()
        self._taking = threading.RLock()
        self._wakes = queue.SimpleQueue()
        self._thread = None

    def _waiter(self) -> threading.Thread:
        if self._thread is None:
            with self._taking:
                if self._thread is None:
                    thread = threading.Thread(target=self._take_all, name="rl_logging-arriving", daemon=True)
                    thread.start()
                    self._thread = thread
        return self._thread

    def _take_all(self) -> None:
        if not self._may_wait():
            return
        while self._wakes.get():
            try:
                self._held[0].values.wait()
            except IndexError:  # somebody else has taken it
                continue
            except Exception:
                log.debug("waiting for a device", exc_info=True)  # `take` meets it again, and tells it
            self.take()

    def _lose(self, why: str, count: int = 1) -> None:
        self.lost += count
        self._warn("device", f"what is logged from a device is not kept: {why}; training goes on")
