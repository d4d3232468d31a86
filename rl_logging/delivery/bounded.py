"""A sink that cannot hold its worker for ever: it has a thread of its own, and each call a deadline.

A thread that hangs cannot be stopped. It is left behind with its sink, and the worker goes on with a new object, as it
would after a crash: opened with the kept state, and handed over anew what is not confirmed. Two threads are never in
one object, and what an abandoned call brings in the end is nobody's.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from rl_logging.records import Record, RunStatus
from rl_logging.sinks import Sink

log = logging.getLogger("rl_logging.delivery")

CALL_S: Final = 300.0
"""For how long a call may take, far beyond what the built-in sinks' own limits add up to."""
SLOW_UPLOAD_BYTES_PER_S: Final = 200_000
"""Files may take as long as a slow line needs."""
LET_GO_S: Final = 10.0
"""For how long an abandoned call is waited for, once the sink was told that it is."""

T = TypeVar("T")


class OverdueError(Exception):
    """A sink's call has not returned in time; its object is abandoned."""


class _Call:
    """One call on its way: what is called, and what came of it."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self.over = threading.Event()
        self.result: object = None
        self.error: BaseException | None = None

    def make(self) -> None:
        try:
            self.result = self._function()
        except BaseException as error:  # handed to whoever waits
            self.error = error
        finally:
            self.over.set()


class BoundedSink:
    """A sink behind deadlines; the same face, driven by one worker.

    Args:
        key: The destination's key, for the thread's name.
        make: Makes the sink; called in its thread, by `open`.
        call_s: For how long a call may take.
    """

    def __init__(self, key: str, make: Callable[[], Sink], *, call_s: float = CALL_S) -> None:
        self.key = key
        self._make = make
        self._call_s = call_s
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._abandoned = False
        self.inner: Sink | None = None
        self.accepts: frozenset[type[Record]] = frozenset()
        self.extra_until = 0.0
        """Until when (monotonic) the call that runs may be busy with large files."""
        self._thread = threading.Thread(target=self._run, name=f"rl_logging-{key}-calls", daemon=True)
        self._thread.start()

    def is_busy(self) -> bool:
        """Whether its thread is still there."""
        return self._thread.is_alive()

    def open(self, state: Mapping[str, Any] | None, others: Sequence[BoundedSink] = ()) -> Mapping[str, Any]:
        """See `Sink.open`; makes the sink first.

        Args:
            state: What the last `open` returned.
            others: Abandoned ones of the same destination. A live object of the program's is given out again and
                again; it is not touched while one of these has it.

        Raises:
            OverdueError: It has not returned in time.
        """

        def make_and_open() -> Mapping[str, Any]:
            inner = self._make()
            if any(other.inner is inner and other.is_busy() for other in others):
                raise OverdueError("a call to this sink, which is an object of the program, has not returned yet")
            self.inner = inner
            self.accepts = inner.accepts
            return inner.open(state)

        return self._call("open", make_and_open)

    def write(self, batch: Sequence[Record], /, files_bytes: int = 0) -> None:
        """See `Sink.write`.

        Args:
            batch: The records.
            files_bytes: Size of what they point to.

        Raises:
            OverdueError: It has not returned in time.
        """
        self._call("write", lambda: self._opened.write(batch), files_bytes / SLOW_UPLOAD_BYTES_PER_S)

    def confirmed(self) -> int:
        """See `Sink.confirmed`.

        Raises:
            OverdueError: It has not returned in time.
        """
        return self._call("confirmed", lambda: self._opened.confirmed())

    def close(self, status: RunStatus | None, /) -> None:
        """See `Sink.close`; nothing where it was never made, or is abandoned: then its own thread closes it.

        Raises:
            OverdueError: It has not returned in time.
        """
        if self.inner is not None and not self._abandoned:
            self._call("close", lambda: self._opened.close(status))

    def end(self) -> None:
        """Ends its thread, once what runs has returned."""
        self._calls.put(None)
        if not self._abandoned:
            self._thread.join(LET_GO_S)

    @property
    def _opened(self) -> Sink:
        assert self.inner is not None
        return self.inner

    def _call(self, what: str, function: Callable[[], T], extra_s: float = 0.0) -> T:
        call = _Call(function)
        self.extra_until = time.monotonic() + extra_s
        self._calls.put(call)
        in_time = call.over.wait(self._call_s + extra_s)
        self.extra_until = 0.0
        if not in_time:
            self._abandon(what)
            raise OverdueError(
                f"the sink's {what} has not returned for {self._call_s + extra_s:,.0f} s; it is left behind, and a new "
                "one goes on"
            )
        if call.error is not None:
            raise call.error
        return cast("T", call.result)

    def _abandon(self, what: str) -> None:
        """Has its thread let go of the sink when the call returns, and asks the sink to make it return."""
        log.error("%s: %s has not returned in time", self._thread.name, what)
        self._abandoned = True
        self._calls.put(_Call(self._let_go))
        self._calls.put(None)
        abandon = getattr(self.inner, "abandon", None)
        if abandon is not None:
            threading.Thread(target=_guarded, args=(abandon,), name=f"{self._thread.name}-abandon", daemon=True).start()
        self._thread.join(min(LET_GO_S, self._call_s))

    def _let_go(self) -> None:
        if self.inner is not None:
            with contextlib.suppress(Exception):  # nobody is there to hear of it
                self.inner.close(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call.make()


def _guarded(abandon: Callable[[], object]) -> None:
    try:
        abandon()
    except Exception:
        # A plugin's own; the call is left behind either way, and the log says why it was not ended too.
        log.warning("abandoning a sink failed", exc_info=True)
