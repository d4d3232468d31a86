"""A lease: a lock for file systems that have none, as a file that says whose it is, with a heartbeat.

What a lease promises, where a link or an exclusive creation and a rename are one step, and opening a file shows what
another machine has renamed there (NFS's close-to-open consistency):

- Of all who take a free lease, or one that was left, one gets it. Who replaces or gives back a lease first makes a file
  named after that lease's token, which only one can, and then looks again; so nothing younger is ever put aside.
- A holder that cannot read or touch its lease for a while keeps it, and goes on trying. Only another's lease in its
  place ends it. A lease that somebody deleted is put back.
- In doubt nobody gets it: what cannot be read at all is not taken, and one that was taken over counts only when it is
  still there after a pause.

What it does not promise: a holder on another machine that is silent for `SILENCE_S` (suspended, or cut off from the
file system) counts as gone although it may wake, and it learns of its loss by its next heartbeat only. Until then two
processes hold the lease. `Lease.lost` tells; whoever must not write twice looks there. The same is true of a taker that
is suspended for so long between its look and its rename.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from rl_logging.processes import boot_id, started_at

log = logging.getLogger("rl_logging")

HEARTBEAT_S: Final = 10.0
SILENCE_S: Final = 120.0
"""A lease of another machine's process counts as left when it has not been touched for so long."""
SETTLING_S: Final = 0.2
"""After so long a lease that was taken over must still be its taker's."""
_LOOKS: Final = 3


def _nothing() -> None:
    pass


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


class Lease:
    """A lease in a file.

    Args:
        path: The file.
        on_lost: Called when another's lease is found in its place.
    """

    def __init__(self, path: Path, on_lost: Callable[[], None] = _nothing) -> None:
        self._path = path
        self._on_lost = on_lost
        pid = os.getpid()
        self._token = secrets.token_hex(8)
        self._holder = _Holder(
            host=socket.gethostname(), boot_id=boot_id(), pid=pid, started=started_at(pid) or 0.0, token=self._token
        )
        self._left = threading.Event()
        self._lost = False
        self._beating = threading.Lock()  # a beat never puts back what is being left

    @property
    def lost(self) -> bool:
        """Whether a heartbeat found another's lease in its place."""
        return self._lost

    def take(self) -> bool:
        """Takes the lease where nobody has it, or whoever had it is gone; returns whether it is ours."""
        if not self._place():
            return False
        threading.Thread(target=self._beat, name="rl_logging-lease", daemon=True).start()
        return True

    def leave(self) -> None:
        """Lets go of it."""
        self._left.set()
        with self._beating:
            try:
                try:
                    with self._sole_heir(self._token) as is_heir:
                        if is_heir:
                            self._remove()
                except OSError:  # such as a full disk, on which a file can be removed all the same
                    self._remove()
            except OSError as error:
                log.warning(
                    "%s could not be given back (%s); it is free once this process has ended", self._path, error
                )

    def _place(self) -> bool:
        """Puts our lease where there is none or one that was left; returns whether it is there."""
        with self._draft() as draft:
            if self._link(draft):
                return self._is_confirmed(0.0)
            return self._inherit(draft) and self._is_confirmed(SETTLING_S)

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Path]:
        draft = self._path.with_name(f".{self._path.name}.{self._token}")
        try:
            draft.write_bytes(msgspec.json.encode(self._holder))
            yield draft
        finally:
            draft.unlink(missing_ok=True)

    def _link(self, draft: Path) -> bool:
        """Gives the draft the lease's name, whole and at once, unless that is taken."""
        try:
            os.link(draft, self._path)
        except FileExistsError:
            return self._has_come_through()
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS):
                raise
            # No hard links either.
            try:
                with open(self._path, "xb") as file:
                    file.write(draft.read_bytes())
            except FileExistsError:
                return self._has_come_through()
        return True

    def _has_come_through(self) -> bool:
        """Whether it is our own lease that is in the way: NFS asks again when the answer to a link got lost."""
        try:
            return self._is_ours()
        except OSError:
            return False

    def _inherit(self, draft: Path) -> bool:
        """Replaces a lease that was left by the draft; returns whether it did."""
        token = self._left_token(draft)
        if token is None:
            return False
        with self._sole_heir(token) as is_heir:
            # Another heir may have been faster, and done, before we became the only one.
            if not is_heir or self._left_token(draft) != token:
                return False
            os.replace(draft, self._path)
            return True

    @contextlib.contextmanager
    def _sole_heir(self, token: str) -> Iterator[bool]:
        """Makes us the only one who may replace or remove the lease with this token, for the block's time.

        Yields:
            Whether we are; another may be at it.
        """
        # An heir that was killed meanwhile is inherited from in turn.
        heir = Lease(self._path.with_name(f".{self._path.name}.{token}.heir"))
        is_heir = heir._place()
        try:
            yield is_heir
        finally:
            if is_heir:
                heir._remove()

    def _left_token(self, draft: Path) -> str | None:
        """Returns the token of the lease that lies there if whoever had it is gone; None if not, or in doubt."""
        try:
            holder = _read(self._path)
            # By the file system's clock: it made the draft just now.
            age_s = draft.stat().st_mtime - self._path.stat().st_mtime
        except OSError:
            return None
        if holder is None:
            # It is being written at this moment, or was cut short by a kill.
            return "cut" if age_s > HEARTBEAT_S else None
        return holder.token if holder.gone(age_s) else None

    def _is_confirmed(self, pause_s: float) -> bool:
        """Whether the lease just put there is there and ours."""
        for _ in range(_LOOKS):
            self._left.wait(pause_s)
            try:
                return self._is_ours()
            except FileNotFoundError:
                return False
            except OSError as error:
                pause_s, unread = SETTLING_S, error
        log.warning("%s was taken but cannot be read back (%s); it is given back", self._path, unread)
        self._path.unlink(missing_ok=True)
        return False

    def _is_ours(self) -> bool:
        holder = _read(self._path)
        return holder is not None and holder.token == self._token

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._is_ours():
                self._path.unlink()

    def _beat(self) -> None:
        while not self._left.wait(HEARTBEAT_S):
            # Not to be read or touched (EIO, ESTALE) is not lost: the next beat may do better.
            with self._beating, contextlib.suppress(OSError):
                self._touch()
            if self._lost:
                log.warning("%s was taken over by another process: this one was silent for too long", self._path)
                self._on_lost()
                return

    def _touch(self) -> None:
        if self._left.is_set():
            return
        try:
            holder = _read(self._path)
        except FileNotFoundError:
            with self._draft() as draft:
                self._link(draft)
            return
        if holder is not None and holder.token != self._token:
            self._lost = True
        else:
            os.utime(self._path)


def _read(path: Path) -> _Holder | None:
    """Returns what a lease says; None if that is no whole lease.

    Raises:
        OSError: It is not there, or cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Holder)
    except msgspec.DecodeError:
        return None
