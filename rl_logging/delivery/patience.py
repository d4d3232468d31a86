"""When a worker tries again, when it gives up, and what wakes it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from rl_logging.delivery import backoff
from rl_logging.delivery.book import Book
from rl_logging.delivery.words import in_words

log = logging.getLogger("rl_logging.delivery")

IDLE_S: Final = 0.2
AWAITED_S: Final = 0.05
GATHER_S: Final = 0.5
STAND_BY_S: Final = 0.5


class StoppedError(Exception):
    """The worker was told to stop, or gave up, with something still owed."""


class ForgottenError(Exception):
    """The user has given the destination up."""


class Patience:
    """What a worker waits for, and for how long.

    While a training process lives it waits for a store without end; once the run is over, until nothing has moved for
    `patience_s`.

    Args:
        book: The destination's account.
        warn: Called with what the user must see.
        live: Whether a training process may still be writing.
        patience_s: How long to go on without progress once the run is over.

    Attributes:
        asked: Who waits: another object each time somebody asks, None before anybody has.
    """

    def __init__(self, book: Book, warn: Callable[[str], None], *, live: bool, patience_s: float) -> None:
        self._book = book
        self._warn = warn
        self._live = live
        self._patience_s = patience_s
        self._backoff = backoff.Backoff(backoff.FIRST_S, backoff.CAP_S)
        self._wake = threading.Event()
        self.asked: object = None
        self._answered: object = None
        self._waits_until = 0.0
        self._left_alone_until = 0.0
        self._over = threading.Event()
        self._stop = threading.Event()
        self._hurried = threading.Event()
        self._progress_at = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether nothing more will be written."""
        return self._over.is_set() or not self._live

    @property
    def exhausted(self) -> bool:
        """Whether nothing has moved for too long."""
        return time.monotonic() - self._progress_at > self._patience_s

    def wake(self, wait_s: float = 0.0) -> None:
        """Somebody waits for what is new: look at once, and try at once where a store was down.

        Args:
            wait_s: For how many seconds they wait at most. For so long the tries stay close together, so that they
                have everything soon after the store is back.
        """
        until = time.monotonic() + wait_s
        self._waits_until = max(self._waits_until, until) if self.awaited else until
        self.asked = object()
        self._wake.set()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits who was not answered."""
        return self.asked is not self._answered

    def answered(self, asked: object) -> None:
        """Whoever waited when `asked` was read has what they waited for."""
        self._answered = asked

    def run_is_over(self) -> None:
        """The training process is gone."""
        self._progress_at = time.monotonic()
        self._over.set()
        self._wake.set()

    def hurry(self) -> None:
        """Go on while it goes well, and wait for nothing: what a store does not take now is left for later."""
        self._hurried.set()
        self._wake.set()

    def stop(self) -> None:
        """Leave what is still owed for later, at once."""
        self._stop.set()
        self._wake.set()

    def check(self) -> None:
        """Does nothing, unless the worker was told to stop.

        Raises:
            StoppedError: It was.
            ForgottenError: The user has given the destination up.
        """
        if self._stop.is_set():
            raise StoppedError("stopped before everything was delivered")
        self.require_wanted()

    def require_wanted(self) -> None:
        """Does nothing, unless the user has given the destination up.

        Raises:
            ForgottenError: So it is.
        """
        if self._book.is_forgotten():
            name = self._book.state.sink
            raise ForgottenError(
                f"{self._book.state.destination} was given up (rl-logging forget), and gets nothing more; "
                f"'rl-logging sync --to {name}' takes it up again"
            )

    def rest(self) -> None:
        """Waits a little for something new, and for less where somebody waits for what the store has not confirmed."""
        self._wait(AWAITED_S if self.awaited else IDLE_S)

    def gather(self, began: float) -> None:
        """Waits until a batch that began to grow at `began` (monotonic) had time to, or is asked for."""
        self._wait(max(0.0, began + GATHER_S - time.monotonic()))

    def stand_by(self) -> None:
        """Waits a little while another process delivers.

        Raises:
            StoppedError: Told to stop, or that process has got nowhere for too long.
        """
        self._wait(STAND_BY_S)
        if self._told_to_end or (self.over and self.exhausted):
            raise StoppedError("another process is delivering this run there")

    def progressed(self) -> None:
        """Something went well."""
        self._backoff.reset()
        self._progress_at = time.monotonic()
        if self._book.state.phase == "backoff":
            self._book.phase("delivering")

    def pause(self, error: Exception, *, closing: bool = False) -> None:
        """Waits before another try: little while somebody waits for it.

        Args:
            error: What went wrong.
            closing: Whether all that is left is to end the run: whoever waits then was told of everything else.

        Raises:
            StoppedError: There is no other try.
            ForgottenError: The user has given the destination up.
        """
        self.require_wanted()
        words = in_words(error)
        if self._book.state.last_error != words:
            log.info("%s: %s", self._book.state.sink, words, exc_info=log.isEnabledFor(logging.DEBUG))
            if self._book.state.last_error is None and self._backoff.attempts == 0:
                meanwhile = (
                    "it is tried again" if self.over else "training goes on, and what is logged is kept and sent later"
                )
                self._warn(f"not now: {words}; {meanwhile}")
        self._book.phase("backoff", words)
        if self._told_to_end or (self.over and self.exhausted):
            raise StoppedError(words)
        awaited = (self.awaited or closing) and time.monotonic() < self._waits_until
        asked_s = getattr(error, "retry_after_s", None)
        wait_s = self._backoff.next_s(asked_s, awaited=awaited)
        if asked_s is None:
            self._wait(wait_s)
        else:
            self._leave_alone(wait_s)
        if self._told_to_end:
            raise StoppedError(words)

    def _leave_alone(self, seconds: float) -> None:
        """Waits for as long as the store has asked; it is tried once before, where somebody begins to wait for it."""
        until = time.monotonic() + seconds
        while not self._told_to_end and (now := time.monotonic()) < until:
            self._wait(until - now)
            if time.monotonic() >= self._left_alone_until:
                self._left_alone_until = until
                return

    def _wait(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    @property
    def _told_to_end(self) -> bool:
        return self._stop.is_set() or self._hurried.is_set()
