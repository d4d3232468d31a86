"""Handing records over to an opened sink: made ready, tried again while its store is down; what it refuses is found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from rl_logging.bundle import Bundle, BundleError
from rl_logging.delivery.book import Book
from rl_logging.delivery.bounded import BoundedSink, OverdueError
from rl_logging.delivery.cursor import Cursor, Outcome
from rl_logging.delivery.decoding import LeftOut
from rl_logging.delivery.files import ready, size_of_files
from rl_logging.delivery.patience import Patience
from rl_logging.delivery.words import in_words
from rl_logging.media import MediaError
from rl_logging.records import End, Metrics, Record, Unknown
from rl_logging.sinks import RejectedError, TransientError

log = logging.getLogger("rl_logging.delivery")

TRIES_BEFORE_BLAME: Final = 3

_OTHERWISE: Final[dict[type[Record], Outcome]] = {
    End: Outcome.END,
    Unknown: Outcome.PASSED,
    LeftOut: Outcome.SUPERSEDED,
}


class Handing:
    """Hands records over to one opened sink, and notes with the cursor what became of each.

    Args:
        bundle: The run.
        sink: The sink, open.
        book: The destination's account.
        cursor: Where it stands.
        patience: When to try again.
        check: Called before each try; raises where somebody else delivers now.
    """

    def __init__(
        self,
        bundle: Bundle,
        sink: BoundedSink,
        book: Book,
        cursor: Cursor,
        patience: Patience,
        check: Callable[[], None],
    ) -> None:
        self._bundle = bundle
        self._sink = sink
        self._book = book
        self._cursor = cursor
        self._patience = patience
        self._check = check

    def hand_over(self, records: Sequence[Record]) -> None:
        """Hands over what the sink wants of `records`; returns once it has them, or has refused some."""
        if not records:
            return
        wanted = []
        refused = set()
        for record in records:
            if type(record) in self._sink.accepts and not isinstance(record, End):
                try:
                    wanted.append(ready(self._bundle, record))
                except (BundleError, MediaError, FileNotFoundError) as error:
                    self._book.set_aside(record, str(error))
                    refused.add(record.seq)
        if wanted:
            refused |= self._write(wanted)
        handed = {record.seq for record in wanted} - refused
        for record in records:
            if record.seq in handed:
                outcome = Outcome.HANDED
            elif record.seq in refused:
                outcome = Outcome.REFUSED
            else:
                outcome = _OTHERWISE.get(type(record), Outcome.SKIPPED)
            self._cursor.add(record.seq, outcome, len(record.values) if isinstance(record, Metrics) else 1)
        last = records[-1]
        self._book.state.end = last.status if isinstance(last, End) else None
        self._book.state.handed_over = last.seq

    def _write(self, batch: Sequence[Record]) -> set[int]:
        """Hands `batch` over, whatever it takes: waits while the store is down, finds and sets aside what it refuses.

        Returns:
            The seqs of the refused records.
        """
        tries = 0
        while True:
            self._check()
            try:
                self._sink.write(batch, files_bytes=size_of_files(self._bundle, batch))
            except OverdueError:
                raise
            except TransientError as error:
                self._patience.pause(error)
                continue
            except RejectedError as error:
                refused = {record.seq for record in error.records or batch}
                for record in batch:
                    if record.seq in refused:
                        self._book.set_aside(record, str(error))
                self._patience.progressed()
                return refused
            except Exception as error:  # a plugin's surprise: perhaps the store, perhaps one record
                log.warning("%s: write failed", self._sink.key, exc_info=True)
                tries += 1
                if tries < TRIES_BEFORE_BLAME:
                    self._patience.pause(error)
                    continue
                if len(batch) == 1:
                    self._book.set_aside(batch[0], in_words(error))
                    return {batch[0].seq}
                middle = len(batch) // 2
                return self._write(batch[:middle]) | self._write(batch[middle:])
            self._patience.progressed()
            return set()
