"""A lock that one process holds at a time: the file system's own or, where it has none, a lease with a heartbeat.

Some network file systems (NFS without its lock daemon, Lustre without ``-o flock``) refuse every lock. There the holder
leaves a file that says who it is, and touches it now and then; who finds it takes it over once that process is seen to
be gone or, of another machine, has not touched it for long: `rl_logging.leases`, which says what that promises and
what not.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import filelock

from rl_logging.leases import Lease

_NONE_TO_BE_HAD: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
# A newer filelock would otherwise go on with a lock file that says nothing of machines, and warn.
_STRICT: Final[dict[str, Any]] = (
    {"fallback_to_soft": False}
    if "fallback_to_soft" in inspect.signature(filelock.FileLock.__init__).parameters
    else {}
)


def _nothing() -> None:
    pass


class Lock:
    """A lock on `path`, not yet held.

    Args:
        path: A file of its own; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inner = filelock.FileLock(path, timeout=0, thread_local=False, **_STRICT)
        self._lease: Lease | None = None
        self.on_lost: Callable[[], None] = _nothing
        """Called once, from the heartbeat's thread, when another process is found to have taken over the lease."""

    @property
    def native(self) -> bool:
        """Whether it is the file system's own that is held."""
        return self._lease is None and self._inner.is_locked

    @property
    def is_there(self) -> bool:
        """Whether the file that is locked here still has its name, so that nobody can hold another one of that name."""
        fd = self._inner._context.lock_file_fd
        if self._lease is not None or fd is None:
            return True
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._path))
        except FileNotFoundError:
            return False

    @property
    def lost(self) -> bool:
        """Whether another process has taken over the lease held here, as last seen by its heartbeat.

        Always False for the file system's own lock, which nobody can take over.
        """
        return self._lease is not None and self._lease.lost

    def acquire(self) -> bool:
        """Takes the lock if nobody has it, without waiting; returns whether it is ours now.

        Raises:
            OSError: The lock's file cannot be made.
        """
        try:
            self._inner.acquire()
        except filelock.Timeout:
            return False
        except NotImplementedError:
            pass
        except OSError as error:
            if error.errno not in _NONE_TO_BE_HAD:
                raise
        else:
            return True
        lease = Lease(self._path.with_suffix(".lease"), lambda: self.on_lost())
        if not lease.take():
            return False
        self._lease = lease
        return True

    def release(self) -> None:
        """Lets go of the lock."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.leave()
        else:
            self._inner.release()

    def forget(self) -> None:
        """Drops a forked child's copy of the descriptor; unlocking it would unlock the parent's."""
        self._lease = None
        context = self._inner._context
        fd, context.lock_file_fd = context.lock_file_fd, None
        if fd is not None:
            os.close(fd)

    @contextlib.contextmanager
    def wait(self, poll_s: float = 0.05) -> Iterator[Lock]:
        """Waits for the lock and holds it for the block's time."""
        pause = threading.Event()
        while not self.acquire():
            pause.wait(poll_s)
        with self:
            yield self

    def __enter__(self) -> Lock:
        if self._lease is None and not self._inner.is_locked and not self.acquire():
            raise BlockingIOError(errno.EAGAIN, "another process holds it", str(self._path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
