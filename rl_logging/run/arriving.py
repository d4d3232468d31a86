"""Records whose values are still on a device: kept in the order of their calls, accepted when the values are there."""

from __future__ import annotations

import contextlib
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

MOST_BYTES: Final = 512 << 20
"""Pinned memory that whole tensors may take at once, on their way."""

ADMITTED_S: Final = 0.1
"""For what is being appended to the journal when the run ends."""

_LOOK_EVERY_S: Final = 0.001


class Arriving(Protocol):
    """Values on their way, as `rl_logging.run.device_copies.Copy`."""

    def arrived(self) -> bool:
        """Whether they are there."""
        ...

    def wait(self) -> None:
        """Waits until they are."""
        ...

    def figures(self) -> list[Any]:
        """Returns them; to be called once."""
        ...


class Copies(Protocol):
    """Starts copies, as `rl_logging.run.device_copies.DeviceCopies`."""

    def start(self, tensors: Sequence[Any]) -> Arriving:
        """Starts that of tensors of one element each, which arrive as floats."""
        ...

    def start_whole(self, tensors: Sequence[Any]) -> Arriving:
        """Starts that of tensors of any shape, which arrive as tensors in the host's memory."""
        ...


Accept = Callable[[list[Any]], None]


class _Held(NamedTuple):
    values: Arriving
    accept: Accept
    size: int


class ArrivingRecords:
    """Holds records until their values are there.

    A thread waits for them, one after the other. Where the driver does not let it, the next call looks instead. All
    methods are safe from several threads, and from a signal handler that interrupts any of them: each record is
    accepted once.

    Args:
        copies: Starts the copies.
        may_wait: Called in that thread; whether it may wait there.
        warn: Called with a key and a message when a record's values will not come.

    Attributes:
        lost: How many records' values did not come.
    """

    def __init__(self, copies: Copies, may_wait: Callable[[], bool], warn: Callable[[str, str], None]) -> None:
        self._copies = copies
        self._may_wait = may_wait
        self._warn = warn
        self._held: deque[_Held] = deque()
        self._accepting: list[_Held] = []
        self._undecided: list[_Held] = []
        self._abandoned: deque[_Held] = deque()
        self._closed = False
        # Reentrant: a signal handler may finish the run in the middle of `take`.
        self._taking = threading.RLock()
        self._depth = 0
        self._deferred: list[Callable[[], None]] = []
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.lost = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def interrupted(self) -> bool:
        """Whether the caller, a signal handler, has interrupted this thread in the middle of `take`."""
        if not self._taking.acquire(blocking=False):
            return False
        try:
            return self._depth > 0
        finally:
            self._taking.release()

    def hold(self, tensors: Sequence[Any], accept: Accept, *, whole: bool = False) -> None:
        """Starts the values' copy and returns; `accept` gets them once they are there, in the order of the calls.

        Args:
            tensors: Of one element each; none is fine.
            accept: Called once, by another thread or a later call; not at all where they do not come, which is told.
            whole: The tensors are of any shape, and arrive as tensors in the host's memory.
        """
        if self._closed:
            self._lose("the run has ended")
            return
        if not self._waiter().is_alive():
            self.take()
        if len(self._held) >= MOST:
            self._lose(f"{MOST:,} records wait for it already; later ones are not kept until it goes on")
            return
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors) if whole else 0
        if whole and size + sum(held.size for held in tuple(self._held)) > MOST_BYTES:
            self._lose(
                f"with {size:,} bytes more, over {MOST_BYTES:,} would be on their way at once: log fewer or smaller "
                "pictures and videos, as uint8, or hand over .cpu(), which waits"
            )
            return
        try:
            values = (self._copies.start_whole if whole else self._copies.start)(tensors)
        except Exception as error:  # the device's errors are the training's to see, in its own next call
            self._lose(str(error))
            return
        self._held.append(held := _Held(values, accept, size))
        if self._closed:  # by another thread, which may not have seen this one any more
            self._give_up(held)
        self._wakes.put(True)

    def take(self, timeout_s: float = -1) -> bool:
        """Accepts what has arrived, up to the first that has not.

        Another thread that is at it is given so long; returns False where it has not come to an end by then.
        """
        if not self._taking.acquire(timeout=timeout_s):
            return False
        try:
            self._depth += 1
            try:
                while self._take_first():
                    pass
            finally:
                self._depth -= 1
                while self._deferred and not self._depth:
                    self._deferred.pop(0)()
        finally:
            self._taking.release()
        return True

    def afterwards(self, action: Callable[[], None]) -> None:
        """Calls `action`; where the caller is a signal handler that interrupted `take`, as soon as that goes on."""
        if self.interrupted:
            self._deferred.append(action)
        else:
            action()

    def settle(self, timeout_s: float) -> bool:
        """Waits until everything held is accepted; returns whether it is."""
        deadline = time.monotonic() + timeout_s
        # Also where nothing is held: the thread may be accepting the last one.
        while not self.take(max(0.0, deadline - time.monotonic())) or self._held:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_EVERY_S)
        return not self.interrupted

    def admits(self) -> bool:
        """Whether what `accept` makes, called by it in its thread, may be logged: not once `close` has counted it."""
        held = self._accepting[-1]
        try:
            # One step, as in `close`: whoever takes it away decides.
            self._undecided.remove(held)
        except ValueError:
            return held not in self._abandoned
        return True

    def missed(self) -> None:
        """What was admitted came too late all the same."""
        self._lose("1 record had not arrived when the run ended")

    def close(self, timeout_s: float) -> None:
        """Waits as `settle` does; what has not arrived, or is not written, by then is lost, which is told."""
        self.settle(timeout_s)
        self._closed = True
        # Kept all the same: what the device still writes to must not be given to anybody else.
        lost: list[_Held] = []
        with contextlib.suppress(IndexError):
            while True:  # one by one: what another thread takes away meanwhile is that one's
                lost.append(self._held.popleft())
        self._abandoned.extend(lost)
        if not self.interrupted:  # else it goes on when the caller has returned
            lost += self._give_up_unwritten(lost)
        if lost:
            self._lose(f"{len(lost)} records had not arrived when the run ended", len(lost))
        self._wakes.put(False)

    def _give_up_unwritten(self, counted: list[_Held]) -> list[_Held]:
        """Gives up what another thread is writing and has not logged; returns what of it is not counted yet."""
        given_up: list[_Held] = []
        while self._undecided:
            with contextlib.suppress(IndexError):  # decided at this moment
                given_up.append(self._undecided.pop())
        self._abandoned.extend(given_up)
        if any(held not in self._abandoned for held in tuple(self._accepting)) and self._taking.acquire(
            timeout=ADMITTED_S
        ):
            self._taking.release()
        return [held for held in given_up if held not in counted]

    def forget(self) -> None:
        """In a forked child, which must not touch the device: nothing is awaited any more, and nothing given back."""
        self._abandoned, self._held = self._held, deque()
        self._taking = threading.RLock()
        self._depth = 0
        self._deferred = []
        self._wakes = queue.SimpleQueue()
        self._thread = None

    def _take_first(self) -> bool:
        """Accepts the first record, where it has arrived; returns whether to go on with the next."""
        try:
            held = self._held[0]
        except IndexError:
            return False
        problem = None
        try:
            if not held.values.arrived():
                return False
        except Exception as error:
            problem = error
        self._accepting.append(held)
        self._undecided.append(held)  # before it is no longer held: `close` finds it here or there
        try:
            # One step, which no signal handler can divide: whoever takes it away accepts it.
            self._held.remove(held)
        except ValueError:
            return True
        else:
            self._accept(held, problem)
        finally:
            self._accepting.pop()
            with contextlib.suppress(ValueError):
                self._undecided.remove(held)
        return True

    def _accept(self, held: _Held, problem: Exception | None) -> None:
        try:
            if problem is not None:
                raise problem
            held.accept(held.values.figures())
        except Exception as error:
            if self.admits():
                self._lose(str(error))

    def _give_up(self, held: _Held) -> None:
        with contextlib.suppress(ValueError):  # `close` has counted it
            self._held.remove(held)
            self._abandoned.append(held)
            self._lose("the run has ended")

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
