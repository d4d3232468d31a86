"""One destination's worker: opens the sink, hands records over in order, learns what arrived, closes."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from rl_logging.bundle import Bundle, BundleError, SinkEntry
from rl_logging.bundle.destination import DestinationFile, DestinationState
from rl_logging.delivery.book import Book
from rl_logging.delivery.bounded import CALL_S, BoundedSink, OverdueError
from rl_logging.delivery.branch import Branch, of_branch
from rl_logging.delivery.cursor import Cursor, Outcome
from rl_logging.delivery.files import ready, size_of_files
from rl_logging.delivery.patience import Patience, StoppedError
from rl_logging.delivery.trimmer import Trimmer, require_whole
from rl_logging.delivery.words import in_words
from rl_logging.journal import JournalError, JournalReader
from rl_logging.locks import Lock
from rl_logging.media import MediaError
from rl_logging.plugins import PluginError
from rl_logging.records import End, Metrics, Record, RunStatus, Unknown, decode
from rl_logging.secrets import SecretMissingError
from rl_logging.sinks import RejectedError, Sink, SinkContext, TransientError

log = logging.getLogger("rl_logging.delivery")

BATCH: Final = 1000
PENDING_MOST: Final = 20_000
PENDING_VALUES_MOST: Final = 400_000
"""So many records, and so many scalars in them, are handed over before the store has confirmed any: memory."""
TRIES_BEFORE_BLAME: Final = 3
ABANDONED_MOST: Final = 3
"""So many calls that never return are left behind at most; then one must return before there is another try."""


class TakenOverError(Exception):
    """Another process has taken over the lease, and delivers."""


class _LeftOut(Record, frozen=True):
    """A record that the run went back behind."""


_OTHERWISE: Final[dict[type[Record], Outcome]] = {
    End: Outcome.END,
    Unknown: Outcome.PASSED,
    _LeftOut: Outcome.SUPERSEDED,
}

SinkMaker = Callable[[SinkContext], Sink]


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
        self._make = make
        self._live = live
        self._ends = ends
        self._file = DestinationFile(bundle, entry)
        self.book = Book(self._file, tell, warn)
        self._warn = warn
        self._patience = Patience(self.book, warn, live=live, patience_s=patience_s)
        self._cursor = Cursor(self.book.state)
        self._branch = Branch(bundle, self.book.state.branch)
        self._status: RunStatus | None = None
        self._trimmer = Trimmer(bundle, warn)
        self._call_s = call_s
        self._lock: Lock | None = None
        self._sink: BoundedSink | None = None
        self._abandoned: list[BoundedSink] = []
        writer = bundle.writer()
        self._generation = writer.generation if writer is not None else 0

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
        return 0.0 if self._sink is None else self._sink.extra_until

    def wake(self) -> None:
        """There may be something new: look at once, and try at once where a store was down."""
        self._patience.wake()

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
        except (RejectedError, PluginError, SecretMissingError, JournalError, ModuleNotFoundError) as error:
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
            and self._is_the_end(state.confirmed)
            and not reader.read(1, final=self._nobody_writes())
        ):
            self.book.phase("done")
            return
        require_whole(self._bundle, state.confirmed, final=self._nobody_writes())
        while True:
            self._end_earlier()
            sink = self._open()
            try:
                reader = JournalReader(self._bundle.journal, after=self.book.state.confirmed)
                self._status = state.end if self._is_the_end(state.confirmed) else None
                self._follow(sink, reader)
                self._finish(sink)
            except OverdueError as error:
                # As after a crash: what is not confirmed is handed over anew, to a new object.
                self.book.save()
                self._take()
                state = self.book.state
                self._patience.pause(error)
                continue
            except BaseException:
                self._let_go(sink)
                raise
            sink.end()
            return

    def _open(self) -> BoundedSink:
        self.book.phase("opening", self.book.state.last_error)
        context = self._context(self.book.state)
        while True:
            earlier = self._abandoned = [sink for sink in self._abandoned if sink.is_busy()]
            if len(earlier) >= ABANDONED_MOST:
                self._patience.pause(OverdueError(f"{len(earlier)} calls to this sink have not returned"))
                continue
            sink = self._sink = BoundedSink(self._entry.key, lambda: self._make(context), call_s=self._call_s)
            self._abandoned.append(sink)
            try:
                remote = dict(sink.open(self.book.state.remote, earlier))
            except (RejectedError, PluginError, SecretMissingError, ModuleNotFoundError):
                sink.end()
                raise
            except Exception as error:  # whatever a store's client raises while it cannot be reached
                self._let_go(sink)
                self._patience.pause(error)
                continue
            self._patience.progressed()
            self.book.state.remote = remote
            self.book.state.closed = None
            self.book.state.phase = "delivering"
            self.book.state.last_error = None
            self.book.save()
            return sink

    def _context(self, state: DestinationState) -> SinkContext:
        manifest = self._bundle.manifest
        context = SinkContext(
            run_dir=self._bundle.path,
            run_id=manifest.id,
            name=manifest.name,
            project=manifest.project,
            group=manifest.group,
            tags=manifest.tags,
            notes=manifest.notes,
            created=manifest.created,
            program=manifest.program,
            live=self._live and manifest.host == socket.gethostname(),
            ledger=self.book,
            parent_id=manifest.parent,
        )
        return of_branch(context, state)

    def _end_earlier(self) -> None:
        """Ends the remote runs of earlier branches whose delivery was cut off before it could."""
        for state in [] if self._entry.live else self._file.earlier():
            status = state.end or "killed"
            while state.closed is None:
                sink = BoundedSink(self._entry.key, lambda of=state: self._make(self._context(of)), call_s=self._call_s)  # type: ignore[misc]
                try:
                    sink.open(state.remote)
                    sink.close(status)
                except (RejectedError, PluginError, SecretMissingError, ModuleNotFoundError) as error:
                    self._warn(f"run {state.remote_id}, which is superseded, was not ended: {error}")
                except Exception as error:  # whatever a store's client raises while it cannot be reached
                    self._let_go(sink)
                    self._patience.pause(error)
                    continue
                sink.end()
                self._patience.progressed()
                state.closed = status
                self._file.save_earlier(state)

    def _follow(self, sink: BoundedSink, reader: JournalReader) -> None:
        """Delivers until the run is over and the store has everything."""
        while True:
            self._patience.check()
            self._check_lock()
            over = self._patience.over
            full = self._branch.ended or len(self._cursor) >= PENDING_MOST or self._cursor.values >= PENDING_VALUES_MOST
            envelopes = [] if full else self._branch.take(reader.read(BATCH, final=self._nobody_writes()))
            self._note_damage(reader)
            if envelopes:
                reader.sync()
                records: list[Record] = []
                for envelope in envelopes:
                    if self._branch.leaves_out(envelope):
                        records.append(_LeftOut(seq=envelope.seq, time=envelope.time))
                        continue
                    try:
                        record = decode(envelope)
                    except (msgspec.DecodeError, RecursionError, TypeError) as error:
                        self._note(f"record {envelope.seq} does not decode: {error}")
                        records.append(Unknown(seq=envelope.seq, time=envelope.time, name=envelope.kind))
                        continue
                    if isinstance(record, Unknown):
                        self._hand_over(sink, records)
                        self._settle(sink)
                        self.book.state.unknown = record.name
                        raise RejectedError(
                            f"record {record.seq} is of the kind '{record.name}': it needs a newer rl_logging"
                        )
                    records.append(record)
                self._hand_over(sink, records)
                self._confirm(sink)
                self._trimmer.now_and_then()
                continue
            self._confirm(sink)
            self.book.save_if_changed()
            self._trimmer.now_and_then()
            over = over or self._branch.ended
            if not self._cursor and (over or self._status is not None):
                return
            if over and self._cursor and self._patience.exhausted:
                raise StoppedError("the store did not confirm what it was handed")
            self._patience.rest()

    def _settle(self, sink: BoundedSink) -> None:
        """Waits until what was handed over is confirmed."""
        while self._cursor:
            self._confirm(sink)
            self._patience.check()
            self._check_lock()
            if self._patience.exhausted:
                return
            self._patience.rest()

    def _hand_over(self, sink: BoundedSink, records: Sequence[Record]) -> None:
        if not records:
            return
        wanted = []
        refused = set()
        for record in records:
            if type(record) in sink.accepts and not isinstance(record, End):
                try:
                    wanted.append(ready(self._bundle, record))
                except (BundleError, MediaError, FileNotFoundError) as error:
                    self.book.set_aside(record, str(error))
                    refused.add(record.seq)
        if wanted:
            refused |= self._write(sink, wanted)
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
        self.book.state.end = last.status if isinstance(last, End) else None
        self._status = self.book.state.end if isinstance(last, End) and self._is_the_end(last.seq) else None
        self.book.state.handed_over = last.seq

    def _write(self, sink: BoundedSink, batch: Sequence[Record]) -> set[int]:
        """Hands `batch` over, whatever it takes: waits while the store is down, finds and sets aside what it refuses.

        Returns:
            The seqs of the refused records.
        """
        tries = 0
        while True:
            self._check_lock()
            try:
                sink.write(batch, files_bytes=size_of_files(self._bundle, batch))
            except OverdueError:
                raise
            except TransientError as error:
                self._patience.pause(error)
                continue
            except RejectedError as error:
                refused = {record.seq for record in error.records or batch}
                for record in batch:
                    if record.seq in refused:
                        self.book.set_aside(record, str(error))
                self._patience.progressed()
                return refused
            except Exception as error:  # a plugin's surprise: perhaps the store, perhaps one record
                log.warning("%s: write failed", self._entry.key, exc_info=True)
                tries += 1
                if tries < TRIES_BEFORE_BLAME:
                    self._patience.pause(error)
                    continue
                if len(batch) == 1:
                    self.book.set_aside(batch[0], in_words(error))
                    return {batch[0].seq}
                middle = len(batch) // 2
                return self._write(sink, batch[:middle]) | self._write(sink, batch[middle:])
            self._patience.progressed()
            return set()

    def _confirm(self, sink: BoundedSink) -> None:
        """Asks the sink what its store has, and moves the cursor over all that is settled."""
        confirmed = 0
        if self._cursor.awaits_the_store:
            try:
                confirmed = sink.confirmed()
            except RejectedError as error:  # what the store took with its batch and has refused since
                late = {record.seq: record for record in error.records}
                refused = self._cursor.refuse(late)
                if not refused:
                    self._patience.pause(error)
                    return
                for seq in refused:
                    self.book.set_aside(late[seq], str(error))
                self._patience.progressed()
                confirmed = self.book.state.confirmed
            except OverdueError:
                raise
            except Exception as error:  # whatever a store's client raises when it cannot be asked
                self._patience.pause(error)
                return
        if self._cursor.settle(confirmed):
            self._patience.progressed()
            self.book.save_soon()

    def _is_the_end(self, seq: int) -> bool:
        """Whether an End record of this seq ends the run; not where a program has gone on with it since."""
        writer = self._bundle.writer()
        return writer is None or seq >= writer.first_seq

    def _nobody_writes(self) -> bool:
        """Whether what is incomplete in the journal stays so."""
        return self._patience.over and self._ends and not self._goes_on()

    def _goes_on(self) -> bool:
        """Whether another program has begun to go on with the run: its own delivery will close it."""
        writer = self._bundle.writer()
        return writer is not None and writer.generation > self._generation and not writer.released

    def _finish(self, sink: BoundedSink) -> None:
        status: RunStatus | None = self._status or ("killed" if self._ends else None)
        if self._branch.ended:
            status = self.book.state.end or "killed"
        elif self._goes_on():
            status = None
        while True:
            self._check_lock()
            try:
                sink.close(status)
            except OverdueError:
                raise
            except Exception as error:  # whatever a store's client raises when it cannot be told
                self._patience.pause(error)
                continue
            break
        self.book.state.closed = status
        self.book.phase("done" if status is not None else "waiting")

    def _let_go(self, sink: BoundedSink) -> None:
        try:
            sink.close(None)
        except Exception:
            # Whatever made us let go is the news; this is only for the log.
            log.warning("%s: letting go failed", self._entry.key, exc_info=True)
        sink.end()

    def _note_damage(self, reader: JournalReader) -> None:
        for damage in reader.damage:
            self._note(f"{damage.segment} at byte {damage.offset}: {damage.why}")
        reader.damage.clear()

    def _note(self, text: str) -> None:
        if text not in self.book.state.damaged:
            self.book.state.damaged.append(text)
            self._warn(f"the journal is damaged: {text}")
