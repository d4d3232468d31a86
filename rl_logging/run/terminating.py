"""SIGTERM: a run that is told to end is ended as killed, with a little time for its delivery.

Schedulers and containers send SIGTERM, and after a grace time of theirs SIGKILL, which takes the delivery process
along. So where nobody else handles SIGTERM, it is handled while a run is open: the runs are finished as ``killed``,
for `grace_s` at most, and then the process dies of SIGTERM as it would have without us. The first process of a
container, which the kernel does not let die of it, ends with the exit code that shells give it, 143.

Whoever sets a handler of their own, before or after, has it; it may call `finish`. A thread ends the process when the
time is over, whatever the main thread is at; only native code that never returns to Python keeps it from beginning.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import Final, Protocol

from rl_logging.records import RunStatus

AGAIN_S: Final = 0.001
AGAIN_LATEST_S: Final = 0.1
AGAIN_MOST: Final = 1000


class Terminable(Protocol):
    """An open logger, as this module sees it."""

    def finish(self, status: RunStatus = "finished", timeout: float | None = None) -> None:
        """Ends the run."""
        ...

    @property
    def grace_s(self) -> float:
        """For how long SIGTERM leaves delivery time; 0: it is not handled for this run."""
        ...

    @property
    def interrupted(self) -> bool:
        """Whether the caller, a signal handler, has interrupted this thread in the middle of a record."""
        ...


_armed: list[Terminable] = []
_owner = 0
_put_off = 0
_heard = 0
_hearing = threading.RLock()
_forking = threading.local()


def arm(logger: Terminable) -> None:
    """Has SIGTERM end this logger's run, where nobody else handles it."""
    global _owner
    if logger.grace_s <= 0 or sys.platform == "win32":  # no process is told to end there, it is ended
        return
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    _owner = os.getpid()
    _armed.append(logger)


def disarm(logger: Terminable) -> None:
    """The logger's run is over: SIGTERM is as before where there is no other."""
    with contextlib.suppress(ValueError):
        _armed.remove(logger)
    # From another thread it cannot be put back; with no run left it does what it did.
    if not _armed and threading.current_thread() is threading.main_thread():
        _put_back()


def _terminate(number: int, frame: object) -> None:
    global _put_off, _heard
    if os.getpid() != _owner:  # a worker that was forked a moment ago: `_after_fork` is still to come
        _put_back()
        _die()
    with _hearing:
        _heard += 1
    if _put_off < AGAIN_MOST and any(logger.interrupted for logger in _armed):
        # What is being written comes first: it takes microseconds.
        _put_off += 1
        threading.Thread(target=_again, args=(_heard,), daemon=True).start()
        return
    _put_back()  # so that the next SIGTERM, ours or another, ends the process wherever it is
    grace_s = max((logger.grace_s for logger in _armed), default=0.0)
    deadline = time.monotonic() + grace_s
    threading.Thread(target=_die_after, args=(grace_s,), name="rl_logging-grace", daemon=True).start()
    for logger in list(_armed):
        logger.finish("killed", timeout=max(0.0, deadline - time.monotonic()))
    if _armed:
        return  # this has interrupted a run's finish, which goes on until the time is over
    _die()


def _put_back() -> None:
    if signal.getsignal(signal.SIGTERM) is _terminate:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _again(heard: int) -> None:
    """Sends SIGTERM until it is heard: one that comes just before the main thread waits in the system wakes nobody."""
    pause_s = AGAIN_S
    while True:
        threading.Event().wait(pause_s)
        with _hearing:  # once it is heard, one more may end the process at once
            if _heard != heard:
                return
            os.kill(os.getpid(), signal.SIGTERM)
        pause_s = min(2 * pause_s, AGAIN_LATEST_S)


def _die_after(grace_s: float) -> None:
    threading.Event().wait(grace_s)
    _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(128 + signal.SIGTERM)  # reached by the first process of a PID namespace


def _before_fork() -> None:
    """Keeps SIGTERM waiting: Python drops what a forked child gets before it is set up."""
    if _armed:
        _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _unblock() -> None:
    mask, _forking.mask = getattr(_forking, "mask", None), None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork() -> None:
    """A forked worker dies of SIGTERM as it always did."""
    global _hearing
    _hearing = threading.RLock()
    _armed.clear()
    if threading.current_thread() is threading.main_thread():
        _put_back()
    _unblock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_unblock, after_in_child=_after_fork)
