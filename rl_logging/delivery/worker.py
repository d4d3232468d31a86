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
from rl_logging.delivery.cursor import Cursor, Outcome
from rl_logging.delivery.files import ready
from rl_logging.delivery.patience import Patience, StoppedError
from rl_logging.delivery.words import in_words
from rl_logging.journal import JournalError, JournalReader
from rl_logging.locks import Lock
from rl_logging.media import MediaError
from rl_logging.plugins import PluginError
from rl_logging.records import End, Record, RunStatus, Unknown, decode
from rl_logging.secrets import SecretMissingError
from rl_logging.sinks import RejectedError, Sink, SinkContext, TransientError

log = logging.getLogger("rl_logging.delivery")

BATCH: Final = 1000
PENDING_MOST: Final = 20_000
TRIES_BEFORE_BLAME: Final = 3

_OTHERWISE: Final[dict[type[Record], Outcome]] = {End: Outcome.END, Unknown: Outcome.PASSED}

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
        self._status: RunStatus | None = None
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
            with self._acquired():
                self._deliver_all()
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

    def _acquired(self) -> Lock:
        lock = self._file.lock()
        while True:
            if not lock.acquire():
                if self.book.follow("another process is delivering this run there"):
                    self._patience.progressed()
                self._patience.stand_by()
                continue
            # Another delivery may have moved it on since.
            self.book.take()
            self._cursor = Cursor(self.book.state)
            return lock

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
        sink = self._open()
        try:
            reader = JournalReader(self._bundle.journal, after=self.book.state.confirmed)
            self._status = state.end if self._is_the_end(state.confirmed) else None
            self._follow(sink, reader)
            self._finish(sink)
        except BaseException:
            self._let_go(sink)
            raise

    def _open(self) -> Sink:
        self.book.phase("opening", self.book.state.last_error)
        while True:
            sink: Sink | None = None
            try:
                manifest = self._bundle.manifest
                sink = self._make(
                    SinkContext(
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
                    )
                )
                remote = dict(sink.open(self.book.state.remote))
            except (RejectedError, PluginError, SecretMissingError, ModuleNotFoundError):
                raise
            except Exception as error:  # whatever a store's client raises while it cannot be reached
                if sink is not None:
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

    def _follow(self, sink: Sink, reader: JournalReader) -> None:
        """Delivers until the run is over and the store has everything."""
        while True:
            self._patience.check()
            over = self._patience.over
            envelopes = [] if len(self._cursor) >= PENDING_MOST else reader.read(BATCH, final=self._nobody_writes())
            self._note_damage(reader)
            if envelopes:
                reader.sync()
                records: list[Record] = []
                for envelope in envelopes:
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
                continue
            self._confirm(sink)
            self.book.save_if_changed()
            if not self._cursor and (over or self._status is not None):
                return
            if over and self._cursor and self._patience.exhausted:
                raise StoppedError("the store did not confirm what it was handed")
            self._patience.rest()

    def _settle(self, sink: Sink) -> None:
        """Waits until what was handed over is confirmed."""
        while self._cursor:
            self._confirm(sink)
            self._patience.check()
            if self._patience.exhausted:
                return
            self._patience.rest()

    def _hand_over(self, sink: Sink, records: Sequence[Record]) -> None:
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
            self._cursor.add(record.seq, outcome)
        last = records[-1]
        self.book.state.end = last.status if isinstance(last, End) else None
        self._status = self.book.state.end if isinstance(last, End) and self._is_the_end(last.seq) else None
        self.book.state.handed_over = last.seq

    def _write(self, sink: Sink, batch: Sequence[Record]) -> set[int]:
        """Hands `batch` over, whatever it takes: waits while the store is down, finds and sets aside what it refuses.

        Returns:
            The seqs of the refused records.
        """
        tries = 0
        while True:
            try:
                sink.write(batch)
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

    def _confirm(self, sink: Sink) -> None:
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

    def _finish(self, sink: Sink) -> None:
        status: RunStatus | None = self._status or ("killed" if self._ends else None)
        if self._goes_on():
            status = None
        while True:
            try:
                sink.close(status)
            except Exception as error:  # whatever a store's client raises when it cannot be told
                self._patience.pause(error)
                continue
            break
        self.book.state.closed = status
        self.book.phase("done" if status is not None else "waiting")

    def _let_go(self, sink: Sink) -> None:
        try:
            sink.close(None)
        except Exception:
            # Whatever made us let go is the news; this is only for the log.
            log.warning("%s: letting go failed", self._entry.key, exc_info=True)

    def _note_damage(self, reader: JournalReader) -> None:
        for damage in reader.damage:
            self._note(f"{damage.segment} at byte {damage.offset}: {damage.why}")
        reader.damage.clear()

    def _note(self, text: str) -> None:
        if text not in self.book.state.damaged:
            self.book.state.damaged.append(text)
            self._warn(f"the journal is damaged: {text}")
