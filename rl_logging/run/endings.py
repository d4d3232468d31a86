"""How the training process ends: open loggers are finished at its exit, with the status that is true.

An uncaught exception and Ctrl-C leave their trace in `sys`; ``sys.exit(n)`` leaves none, so that it and the builtins
``exit`` and ``quit`` are wrapped once, when the first logger is made. A bare ``raise SystemExit(n)`` can be seen by a
``with`` alone. A process that is killed runs none of this: its run has no End record, and delivery knows what that
means. SIGTERM is `rl_logging.run.terminating`'s.
"""

from __future__ import annotations

import atexit
import builtins
import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, Protocol

from rl_logging.records import RunStatus
from rl_logging.run import terminating


class Ending(Protocol):
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

    def leave(self, status: RunStatus) -> None:
        """The process is about to exit; unless this thread logs on, that is the run's status."""
        ...

    @property
    def leaving(self) -> RunStatus | None:
        """The status of `leave`; None where it was not called, or this thread has logged on."""
        ...

    def become_silent(self) -> None:
        """The process was forked: this copy belongs to the child."""
        ...


_open: list[Ending] = []
_installed = False


def status_of(kind: type[BaseException] | None, error: BaseException | None) -> RunStatus:
    """Returns the status of a run that was left by this exception, or by none."""
    if kind is None:
        return "finished"
    if issubclass(kind, KeyboardInterrupt):
        return "killed"
    if issubclass(kind, SystemExit):
        return _status_of_code(getattr(error, "code", None))
    if issubclass(kind, GeneratorExit):
        return "finished"
    return "failed"


def watch(logger: Ending) -> None:
    """Has `logger` finished at the process's exit, and at SIGTERM."""
    _install()
    _open.append(logger)
    terminating.arm(logger)


def unwatch(logger: Ending) -> None:
    """`logger` is finished already."""
    if logger in _open:
        _open.remove(logger)
    terminating.disarm(logger)


def _status_of_code(code: object) -> RunStatus:
    return "finished" if code in (None, 0, False) else "failed"


def _install() -> None:
    global _installed
    if _installed:
        return
    _installed = True
    sys.exit = _noting(sys.exit)
    for name in ("exit", "quit"):  # the site module's, which may be left out
        if hasattr(builtins, name) and not _interactive():
            setattr(builtins, name, _noting(getattr(builtins, name)))
    atexit.register(_finish_all)


def _noting(leave: Callable[..., NoReturn]) -> Callable[..., NoReturn]:
    @functools.wraps(leave)
    def noting(code: object = None, /) -> NoReturn:
        if threading.current_thread() is threading.main_thread():  # of any other it ends the thread alone
            for logger in _open:
                logger.leave(_status_of_code(code))
        leave(code)

    return noting


def _finish_all() -> None:
    timeout: float | None = None
    for logger in list(_open):
        try:
            logger.finish(_status_of(logger), timeout)
        except KeyboardInterrupt:  # it has ended the waiting, and of the loggers after this one too
            timeout = 0.0


def _status_of(logger: Ending) -> RunStatus:
    error = getattr(sys, "last_exc", None)
    kind = type(error) if error is not None else getattr(sys, "last_type", None)
    if kind is not None and not _interactive():  # there it is any error that was ever shown
        return status_of(kind, error)
    return logger.leaving or "finished"


def _interactive() -> bool:
    return hasattr(sys, "ps1")


def _after_fork() -> None:
    for logger in _open:
        logger.become_silent()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
