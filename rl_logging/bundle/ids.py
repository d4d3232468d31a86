"""A run's id in its folder: of all who begin a run of one id there, under whatever names, one gets it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rl_logging.bundle.directory import Bundle
from rl_logging.bundle.manifest import BundleError
from rl_logging.bundle.unmade import is_being_made, is_unmade
from rl_logging.locks import Lock
from rl_logging.settings.sections import SettingsError

WAIT_S: Final = 2.0
POLL_S: Final = 0.005


@contextlib.contextmanager
def beginning(run_id: str, folder: Path) -> Iterator[None]:
    """Makes this process the only one that begins a run of the id `run_id` in `folder`, for the block's time.

    A run directory bears the run's name too, so that making one keeps nobody from giving its id to another name. The
    lock is beside them, and goes with the block. One that a killed process has left is taken by the next.

    Args:
        run_id: The id; there must be no run of it.
        folder: Where run directories are; made if it is not there.

    Raises:
        SettingsError: It is taken, or another process is just taking it.
        OSError: The folder, or the lock, cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{run_id}.lock"
    lock = _acquired(path, run_id)
    try:
        _require_free(run_id, folder)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def _acquired(path: Path, run_id: str) -> Lock:
    lock = Lock(path)
    deadline = time.monotonic() + WAIT_S
    while True:
        if lock.acquire():
            if lock.is_there:
                return lock
            lock.release()  # who held it has removed it, and the next has made another
        elif time.monotonic() > deadline:
            raise SettingsError(f"rl_logging.id: {run_id!r} is taken: another process is just beginning a run of it")
        else:
            time.sleep(POLL_S)


def _require_free(run_id: str, folder: Path) -> None:
    for path in folder.glob(f"*-{run_id}"):
        try:
            if Bundle(path).manifest.id != run_id:  # that of `lr-1` ends with `-1` too
                continue
            hint = "resume: auto goes on with it"
        except BundleError as error:
            if _is_left_unmade(path):
                continue
            hint = f"it is just being made, or damaged ({error})"
        raise SettingsError(f"rl_logging.id: {run_id!r} is taken: {path} is there already; {hint}")


def _is_left_unmade(path: Path) -> bool:
    """Whether who began a run there was killed before there was one."""
    try:
        return is_unmade(path) and not is_being_made(path)
    except OSError:  # in doubt it is not
        return False
