"""A run whose process has said that it leaves, with ``sys.exit``, and may think better of it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

from rl_logging.records import RunStatus
from rl_logging.run.interface import Run


class LeavingRun:
    """Stands before the run from ``sys.exit`` on, which raises an exception: whoever logs after it has caught that.

    Only the thread that leaves counts: others, the user's and ours, log until the process ends. What is logged on its
    way out, in a ``finally``, an ``except`` or at the exit, does not say that it stays.

    Args:
        run: The run.
        status: What it ends as.
        stay: Called when the thread that made this logs again.
    """

    def __init__(self, run: Run, status: RunStatus, stay: Callable[[], None]) -> None:
        self.run = run
        self.status = status
        self._stay = stay
        self._thread = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.run, name)

    def append(self, kind: str, step: int | None, body: object, time_s: float | None = None) -> int | None:
        """See `Run.append`."""
        self._look()
        return self.run.append(kind, step, body, time_s)

    def hold(self, tensors: Sequence[Any], accept: Callable[[list[Any], float], None], *, whole: bool = False) -> None:
        """See `Run.hold`."""
        self._look()
        self.run.hold(tensors, accept, whole=whole)

    def _look(self) -> None:
        if threading.get_ident() == self._thread and not _on_the_way_out():
            self._stay()


def _on_the_way_out() -> bool:
    if not threading.main_thread().is_alive():  # the functions of `atexit` run
        return True
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, SystemExit):
        error = error.__context__
    return error is not None


def about_to_leave(run: Run, status: RunStatus, stay: Callable[[], None]) -> Run:
    """Returns what stands before `run` from now on; see `LeavingRun`."""
    return cast(Run, LeavingRun(itself(run), status, stay))


def itself(run: Run) -> Run:
    """Returns the run, without what stands before it."""
    return run.run if isinstance(run, LeavingRun) else run
