"""How soon a worker reads on: at once where somebody waits, otherwise when a batch had time to grow."""

from __future__ import annotations

import time

from rl_logging.delivery.book import Book
from rl_logging.delivery.cursor import Cursor
from rl_logging.delivery.patience import Patience


class Pace:
    """The pace of one worker while it follows a journal.

    Whoever waits, in a flush or at the end, waits for what the journal held when they asked. They are answered, with
    the state kept and told, once the store has it; what is logged since has time again.

    Args:
        patience: Knows who waits.
        book: The destination's account.
        cursor: Where it stands.
    """

    def __init__(self, patience: Patience, book: Book, cursor: Cursor) -> None:
        self._patience = patience
        self._book = book
        self._cursor = cursor
        self._asked: object = None
        self._began = 0.0
        self._answering: tuple[object, int] | None = None

    def begin(self) -> None:
        """The journal is about to be read: what was logged by whoever waits now is in it."""
        self._asked = self._patience.asked
        self._began = time.monotonic()

    def answer(self, *, at_end: bool) -> None:
        """Answers whoever waits, if the store has what they wait for.

        Args:
            at_end: Whether everything was handed over that was in the journal.
        """
        self._answer()
        if at_end and self._answering is None and self._patience.awaited:
            self._answering = self._asked, self._cursor.last
            self._answer()

    def gather(self) -> None:
        """Lets a batch grow while a training goes on writing, unless somebody waits.

        Many small batches cost the store, the disk and the training's processor more than a few large ones.
        """
        if not self._patience.awaited:
            self._patience.gather(self._began)

    def _answer(self) -> None:
        if self._answering is None:
            return
        asked, last = self._answering
        if self._book.state.confirmed >= last:
            self._book.save_if_changed(at_once=True)
            self._patience.answered(asked)
            self._answering = None
