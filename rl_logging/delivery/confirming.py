"""Learning what a sink's store has of what it was handed: only that moves the cursor."""

from __future__ import annotations

from collections.abc import Callable

from rl_logging.delivery.book import Book
from rl_logging.delivery.bounded import BoundedSink, OverdueError
from rl_logging.delivery.cursor import Cursor
from rl_logging.delivery.patience import Patience
from rl_logging.sinks import RejectedError


class Confirming:
    """Asks one opened sink what its store has.

    Args:
        sink: The sink, open.
        book: The destination's account.
        cursor: Where it stands.
        patience: When to try again.
        check: Called before each wait; raises where somebody else delivers now.
    """

    def __init__(
        self, sink: BoundedSink, book: Book, cursor: Cursor, patience: Patience, check: Callable[[], None]
    ) -> None:
        self._sink = sink
        self._book = book
        self._cursor = cursor
        self._patience = patience
        self._check = check

    def confirm(self) -> None:
        """Asks once, and moves the cursor over all that is settled."""
        confirmed = 0
        if self._cursor.awaits_the_store:
            try:
                confirmed = self._sink.confirmed()
            except RejectedError as error:  # what the store took with its batch and has refused since
                late = {record.seq: record for record in error.records}
                refused = self._cursor.refuse(late)
                if not refused:
                    self._patience.pause(error)
                    return
                for seq in refused:
                    self._book.set_aside(late[seq], str(error))
                self._patience.progressed()
                confirmed = self._book.state.confirmed
            except OverdueError:
                raise
            except Exception as error:  # whatever a store's client raises when it cannot be asked
                self._patience.pause(error)
                return
        if self._cursor.settle(confirmed):
            self._patience.progressed()
            self._book.save_soon()

    def settle(self) -> None:
        """Waits until what was handed over is confirmed, or nothing has moved for too long."""
        while self._cursor:
            self.confirm()
            self._patience.check()
            self._check()
            if self._patience.exhausted:
                return
            self._patience.rest()
