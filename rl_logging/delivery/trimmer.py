"""Keeping a journal small while it is delivered, where ``rl_logging.keep`` says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from rl_logging.bundle import Bundle, BundleError
from rl_logging.bundle.trimming import trim, trims
from rl_logging.journal import JournalError, JournalReader, read_trimmed
from rl_logging.sinks import RejectedError

EVERY_S: Final = 1.0


class Trimmer:
    """Deletes what every destination has of a journal.

    Args:
        bundle: The run.
        warn: Called with what the user must see.
    """

    def __init__(self, bundle: Bundle, warn: Callable[[str], None]) -> None:
        self._bundle = bundle
        self._warn = warn
        self._wanted = trims(bundle)
        self._next_at = 0.0

    def now_and_then(self) -> None:
        """Does it unless that was done a moment ago."""
        if self._wanted and time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + EVERY_S
            self._trim(over=False)

    def at_the_end(self) -> None:
        """Does it, with the last segment too if the run is over."""
        if self._wanted:
            self._trim(over=True)

    def _trim(self, *, over: bool) -> None:
        try:
            trim(self._bundle, over=over)
        except (OSError, BundleError, JournalError) as error:
            self._warn(f"keep: the journal stays as it is: {error}")


def deleted_before(bundle: Bundle, confirmed: int, *, final: bool) -> int:
    """Returns the last record that was deleted of the journal before a destination had it; 0 where it has them all.

    Args:
        bundle: The run.
        confirmed: The last record that the destination has.
        final: Whether nobody writes the journal any more.

    Raises:
        RejectedError: Nothing that it could have is left.
    """
    trimmed = read_trimmed(bundle.journal)
    if trimmed is None or confirmed >= trimmed.seq:
        return 0
    if final and not JournalReader(bundle.journal, after=trimmed.seq).read(1, final=True):
        raise RejectedError(
            f"the journal was trimmed (rl_logging.keep: undelivered): records {confirmed + 1:,} to {trimmed.seq:,} are "
            "in the stores that the run was configured for, and no longer here"
        )
    return trimmed.seq
