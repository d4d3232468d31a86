"""A lock that one process holds at a time: the file system's own or, where it has none, a lease with a heartbeat.

Some network file systems (NFS without its lock daemon, Lustre without ``-o flock``) refuse every lock. There the holder
leaves a file that says who it is, and touches it now and then; who finds it takes it over once that process is seen to
be gone or, of another machine, has not touched it for long.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import filelock
import msgspec

from rl_logging.processes import boot_id, started_at

log = logging.getLogger("rl_logging")

HEARTBEAT_S: Final = 10.0
SILENCE_S: Final = 120.0
"""A lease of another machine's process counts as left when it has not been touched for so long."""

_NONE_TO_BE_HAD: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
# A newer filelock would otherwise go on with a lock file that says nothing of machines, and warn.
_STRICT: Final[dict[str, Any]] = (
    {"fallback_to_soft": False}
    if "fallback_to_soft" in inspect.signature(filelock.FileLock.__init__).parameters
    else {}
)


class Lock:
    """A lock on `path`, not yet held.

    Args:
        path: A file of its own; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inner = filelock.FileLock(path, timeout=0, thread_local=False, **_STRICT)
        self._lease: _Lease | None = None

    @property
    def native(self) -> bool:
        """Whether it is the file system's own that is held."""
        return self._lease is None and self._inner.is_locked

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
        lease = _Lease(self._path.with_suffix(".lease"))
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


class _Holder(msgspec.Struct, kw_only=True, frozen=True):
    """What a lease's file says."""

    host: str
    boot_id: str
    pid: int
    started: float
    token: str

    def gone(self, age_s: float) -> bool:
        """Whether the process that left this, last touched `age_s` ago, is no more."""
        if self.host != socket.gethostname():
            return age_s > SILENCE_S
        return self.boot_id != boot_id() or started_at(self.pid) != self.started


class _Lease:
    """A lease in a file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        pid = os.getpid()
        self._token = secrets.token_hex(8)
        self._holder = _Holder(
            host=socket.gethostname(), boot_id=boot_id(), pid=pid, started=started_at(pid) or 0.0, token=self._token
        )
        self._left = threading.Event()

    def take(self) -> bool:
        """Takes the lease where nobody has it, or whoever had it is gone; returns whether it is ours."""
        draft = self._path.with_name(f".{self._path.name}.{self._token}")
        draft.write_bytes(msgspec.json.encode(self._holder))
        try:
            if not self._link(draft):
                before, age_s = _read(self._path), self._age_s(draft)
                # One that cannot be read is being written at this moment, or was cut short by a kill.
                if not (before.gone(age_s) if before is not None else age_s > HEARTBEAT_S):
                    return False
                self._put_away(before)
                if not self._link(draft):
                    return False
        finally:
            draft.unlink(missing_ok=True)
        threading.Thread(target=self._beat, name="rl_logging-lease", daemon=True).start()
        return True

    def leave(self) -> None:
        """Lets go of it."""
        self._left.set()
        if self._is_ours():
            self._path.unlink(missing_ok=True)

    def _link(self, draft: Path) -> bool:
        """Gives the draft the lease's name, whole and at once, unless that is taken."""
        try:
            os.link(draft, self._path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS):
                raise
            # No hard links either.
            try:
                with open(self._path, "xb") as file:
                    file.write(draft.read_bytes())
            except FileExistsError:
                return False
        return True

    def _put_away(self, before: _Holder | None) -> None:
        """Removes what was left; not what somebody faster has put there since."""
        aside = self._path.with_name(f".{self._path.name}.{self._token}.left")
        try:
            os.rename(self._path, aside)
        except FileNotFoundError:
            return
        if _read(aside) != before:
            with contextlib.suppress(FileExistsError):
                os.link(aside, self._path)
        aside.unlink(missing_ok=True)

    def _age_s(self, draft: Path) -> float:
        """Returns how long ago the lease was touched, by the file system's clock: it made the draft just now."""
        try:
            return draft.stat().st_mtime - self._path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _is_ours(self) -> bool:
        holder = _read(self._path)
        return holder is not None and holder.token == self._token

    def _beat(self) -> None:
        while not self._left.wait(HEARTBEAT_S):
            if not self._is_ours():
                log.warning("%s was taken over by another process: this one was silent for too long", self._path)
                return
            with contextlib.suppress(OSError):  # the next beat may do better
                os.utime(self._path)


def _read(path: Path) -> _Holder | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Holder)
    except (OSError, msgspec.DecodeError):
        return None
