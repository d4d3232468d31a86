"""One destination's worker: opens the sink, hands records over in order, learns what arrived, closes.

Data flows from the journal (`decoding`) to the opened sink (`opening`, `handing`), and what its store has moves the
cursor (`confirming`); this module says what comes when.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from rl_logging.bundle import Bundle, SinkEntry
from rl_logging.bundle.delivery_lock import NoLockError
from rl_logging.bundle.destination import DestinationFile, DestinationState
from rl_logging.delivery.book import Book
from rl_logging.delivery.bounded import CALL_S, BoundedSink, OverdueError
from rl_logging.delivery.branch import Branch
from rl_logging.delivery.confirming import Confirming
from rl_logging.delivery.cursor import Cursor
from rl_logging.delivery.decoding import decoded
from rl_logging.delivery.handing import Handing
from rl_logging.delivery.opening import FOR_GOOD, Opening, SinkMaker, let_go
from rl_logging.delivery.pace import Pace
from rl_logging.delivery.patience import ForgottenError, Patience, StoppedError
from rl_logging.delivery.run_end import RunEnd
from rl_logging.delivery.trimmer import Trimmer, deleted_before
from rl_logging.delivery.words import in_words
from rl_logging.journal import JournalError, JournalReader
from rl_logging.locks import Lock
from rl_logging.records import End, RunStatus
from rl_logging.sinks import RejectedError

log = logging.getLogger("rl_logging.delivery")

BATCH: Final = 1000
PENDING_MOST: Final = 20_000
PENDING_VALUES_MOST: Final = 400_000
"""So many records, and so many scalars in them, are handed over before the store has confirmed any: memory."""


class TakenOverError(Exception):
    """Another process has taken over the lease, and delivers."""


class DestinationWorker:
    """Delivers one bundle to one destination until the run is over and everything is there.

    Args:
        bundle: The run.
        entry: The destination.
        make: Makes the sink.
        live: Whether to wait for what a training process will still write.
        ends: Whether a run without an End record is over when its journal is; False where it may still be running.
        tell: Called with the state whenever it changed.
        warn: Called with what the user must see.
        patience_s: Once the run is over: for how long to go on trying without any progress.
        call_s: For how long a call of the sink may take; files may take longer.
    """

    def __init__(
        self,
        bundle: Bundle,
        entry: SinkEntry,
        make: SinkMaker,
        *,
        live: bool,
        ends: bool = True,
        tell: Callable[[DestinationState], None],
        warn: Callable[[str], None],
        patience_s: float = 60.0,
        call_s: float = CALL_S,
    ) -> None:
        self._thread = threading.Thread(target=self._run, name=f"rl_logging-{entry.key}", daemon=True)
        self._bundle = bundle
        self._entry = entry
        self._file = DestinationFile(bundle, entry)
        self.book = Book(self._file, tell, warn)
        self._warn = warn
        self._patience = Patience(self.book, warn, live=live, patience_s=patience_s)
        self._cursor = Cursor(self.book.state)
        self._branch = Branch(bundle, self.book.state.branch)
        self._end = RunEnd(bundle, self._patience, ends=ends)
        self._status: RunStatus | None = None
        self._trimmer = Trimmer(bundle, warn)
        self._lock: Lock | None = None
        self._opening = Opening(
            bundle,
            entry,
            make,
            self._file,
            self.book,
            self._patience,
            self._check_lock,
            warn,
            live=live,
            call_s=call_s,
        )

    def start(self) -> None:
        """Starts the worker's thread."""
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> None:
        """Waits for the thread's end."""
        self._thread.join(timeout_s)

    def is_alive(self) -> bool:
        """Whether the thread is still at it."""
        return self._thread.is_alive()

    @property
    def busy_until(self) -> float:
        """Until when (monotonic) large files may be on their way, of which nothing is heard meanwhile."""
        return self._opening.busy_until

    def wake(self, wait_s: float = 0.0) -> None:
        """Somebody waits for what is new, for `wait_s` seconds at most: see `Patience.wake`."""
        self._patience.wake(wait_s)

    def run_is_over(self) -> None:
        """The training process is gone: what is in the journal now is all there will be."""
        self._patience.run_is_over()

    def hurry(self) -> None:
        """Go on while it goes well, and wait for nothing."""
        self._patience.hurry()

    def stop(self) -> None:
        """Leave what is still owed for later, at once."""
        self._patience.stop()

    def _run(self) -> None:
        try:
            while True:
                with self._acquired() as self._lock:
                    try:
                        self._deliver_branches()
                        break
                    except TakenOverError as error:
                        self._warn(str(error))
        except StoppedError as stopped:
            self.book.phase("backoff", str(stopped) or self.book.state.last_error)
        except (*FOR_GOOD, JournalError, ForgottenError, NoLockError) as error:
            self._warn(f"delivery stopped: {error}")
            self.book.phase("refused", str(error))
        except Exception as error:  # the thread's edge: what is unforeseen is told and kept, never swallowed
            log.exception("worker of %s failed", self._entry.key)
            self._warn(f"delivery stopped by a defect: {in_words(error)} (see {self._bundle.delivery_log})")
            self.book.phase("refused", in_words(error))
        self.book.save()
        self._trimmer.at_the_end()

    def _deliver_branches(self) -> None:
        self._deliver_all()
        while self._branch.ended:  # the run went back, and what is logged since is another remote run's
            self._take()
            self._deliver_all()

    def _check_lock(self) -> None:
        """Does nothing where this worker is the one that delivers.

        Raises:
            TakenOverError: Another process has taken over.
        """
        if self._lock is not None and self._lock.lost:
            self.book.give_up()
            raise TakenOverError("another process has taken over delivery: this one was silent for too long")

    def _acquired(self) -> Lock:
        lock = self._file.lock()
        while True:
            if not lock.acquire():
                if self.book.follow("another process is delivering this run there"):
                    self._patience.progressed()
                self._patience.stand_by()
                continue
            # Another delivery may have moved it on since.
            self._take()
            return lock

    def _take(self) -> None:
        self.book.take()
        self._cursor = Cursor(self.book.state)
        self._branch = Branch(self._bundle, self.book.state.branch)

    def _deliver_all(self) -> None:
        state = self.book.state
        reader = JournalReader(self._bundle.journal, after=state.confirmed)
        if (
            state.closed is not None
            and self._end.is_at(state.confirmed)
            and not reader.read(1, final=self._end.nobody_writes())
        ):
            self.book.phase("done")
            return
        self._patience.require_wanted()
        self._pass_over_what_is_gone()
        while True:
            self._opening.end_earlier()
            sink = self._opening.open()
            try:
                reader = JournalReader(self._bundle.journal, after=self.book.state.confirmed)
                self._status = state.end if self._end.is_at(state.confirmed) else None
                self._follow(sink, reader)
                self._opening.close(sink, self._status_at_the_end())
            except OverdueError as error:
                # As after a crash: what is not confirmed is handed over anew, to a new object.
                self.book.save()
                self._take()
                state = self.book.state
                self._patience.pause(error)
                continue
            except BaseException:
                let_go(sink)
                raise
            sink.end()
            return

    def _pass_over_what_is_gone(self) -> None:
        """Has delivery begin behind what was deleted of the journal before this destination could have it."""
        state = self.book.state
        last = deleted_before(self._bundle, state.confirmed, final=self._end.nobody_writes())
        if not last:
            return
        first, count = state.confirmed + 1, last - state.confirmed
        state.lacking += count
        state.confirmed = last
        self.book.warn(
            f"{count:,} records ({first:,} to {last:,}) were deleted of the journal before delivery there began "
            "(rl_logging.keep: undelivered): it gets what was logged after them, and never those"
        )
        self.book.save()

    def _follow(self, sink: BoundedSink, reader: JournalReader) -> None:
        """Delivers until the run is over and the store has everything."""
        handing = Handing(self._bundle, sink, self.book, self._cursor, self._patience, self._check_lock)
        confirming = Confirming(sink, self.book, self._cursor, self._patience, self._check_lock)
        pace = Pace(self._patience, self.book, self._cursor)
        while True:
            self._patience.check()
            self._check_lock()
            over = self._patience.over
            full = self._branch.ended or len(self._cursor) >= PENDING_MOST or self._cursor.values >= PENDING_VALUES_MOST
            pace.begin()
            envelopes = [] if full else self._branch.take(reader.read(BATCH, final=self._end.nobody_writes()))
            at_end = reader.at_end and not full
            self._note_damage(reader)
            if envelopes:
                reader.sync()
                records, unknown = decoded(envelopes, self._branch.leaves_out, self._note)
                handing.hand_over(records)
                if unknown is not None:
                    confirming.settle()
                    self.book.state.unknown = unknown.name
                    raise RejectedError(
                        f"record {unknown.seq} is of the kind '{unknown.name}': it needs a newer rl_logging"
                    )
                last = records[-1]
                self._status = last.status if isinstance(last, End) and self._end.is_at(last.seq) else None
                confirming.confirm()
                self._trimmer.now_and_then()
                pace.answer(at_end=at_end)
                if at_end and not (over or self._status or self._branch.ended):
                    pace.gather()
                continue
            confirming.confirm()
            pace.answer(at_end=at_end)
            self.book.save_if_changed()
            self._trimmer.now_and_then()
            over = over or self._branch.ended
            if not self._cursor and (over or self._status is not None):
                return
            if over and self._cursor and self._patience.exhausted:
                raise StoppedError("the store did not confirm what it was handed")
            self._patience.rest()

    def _status_at_the_end(self) -> RunStatus | None:
        if self._branch.ended:
            return self.book.state.end or "killed"
        if self._end.goes_on():
            return None
        return self._status or ("killed" if self._end.ends else None)

    def _note_damage(self, reader: JournalReader) -> None:
        for damage in reader.damage:
            self._note(f"{damage.segment} at byte {damage.offset}: {damage.why}")
        reader.damage.clear()

    def _note(self, text: str) -> None:
        if text not in self.book.state.damaged:
            self.book.state.damaged.append(text)
            self._warn(f"the journal is damaged: {text}")
