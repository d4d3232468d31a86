"""The locks of those who deliver a run."""

from __future__ import annotations

from pathlib import Path

from rl_logging.locks import Lock


class NoLockError(OSError):
    """No lock can be had in a run directory, such as one that only its owner may write; the message says what to do."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"{path} cannot be locked ({error.strerror or error}), as whoever delivers a run must: get the right to "
            "write in its directory, or deliver a copy of it"
        )


class DeliveryLock(Lock):
    """A lock of those who deliver a run, not yet held.

    Args:
        path: A file of its own; its folder is made.

    Raises:
        NoLockError: The folder cannot be made.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NoLockError(path, error) from error

    def acquire(self) -> bool:
        """See `Lock.acquire`.

        Raises:
            NoLockError: It can be neither taken nor found taken.
        """
        try:
            return super().acquire()
        except OSError as error:
            raise NoLockError(self._path, error) from error
