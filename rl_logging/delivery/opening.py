"""The remote run's opening and ending, whatever it takes: a store may be down, a call may never return."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Final

from rl_logging.bundle import Bundle, SinkEntry
from rl_logging.bundle.destination import DestinationFile, DestinationState
from rl_logging.delivery.book import Book
from rl_logging.delivery.bounded import BoundedSink, OverdueError
from rl_logging.delivery.branch import of_branch
from rl_logging.delivery.patience import Patience
from rl_logging.plugins import PluginError
from rl_logging.records import RunStatus
from rl_logging.secrets import SecretMissingError
from rl_logging.sinks import RejectedError, Sink, SinkContext

log = logging.getLogger("rl_logging.delivery")

ABANDONED_MOST: Final = 3
"""So many calls that never return are left behind at most; then one must return before there is another try."""

FOR_GOOD: Final = (RejectedError, PluginError, SecretMissingError, ModuleNotFoundError)
"""What a sink's making or opening raises that trying again does not change."""

SinkMaker = Callable[[SinkContext], Sink]


class Opening:
    """Opens sinks for one destination, and ends what they opened.

    Args:
        bundle: The run.
        entry: The destination.
        make: Makes the sink.
        file: Where what the destination has is kept.
        book: The destination's account.
        patience: When to try again.
        check: Called before the run is ended; raises where somebody else delivers now.
        warn: Called with what the user must see.
        live: Whether a training process may still be writing.
        call_s: For how long a call of the sink may take.
    """

    def __init__(
        self,
        bundle: Bundle,
        entry: SinkEntry,
        make: SinkMaker,
        file: DestinationFile,
        book: Book,
        patience: Patience,
        check: Callable[[], None],
        warn: Callable[[str], None],
        *,
        live: bool,
        call_s: float,
    ) -> None:
        self._bundle = bundle
        self._entry = entry
        self._make = make
        self._file = file
        self._book = book
        self._patience = patience
        self._check = check
        self._warn = warn
        self._live = live
        self._call_s = call_s
        self._sink: BoundedSink | None = None
        self._abandoned: list[BoundedSink] = []

    @property
    def busy_until(self) -> float:
        """Until when (monotonic) large files may be on their way, of which nothing is heard meanwhile."""
        return 0.0 if self._sink is None else self._sink.extra_until

    def open(self) -> BoundedSink:
        """Returns a sink with the remote run open; waits while its store is down.

        Raises:
            StoppedError: There is no other try.
            Exception: One of `FOR_GOOD`.
        """
        self._book.phase("opening", self._book.state.last_error)
        context = self._context(self._book.state)
        while True:
            earlier = self._abandoned = [sink for sink in self._abandoned if sink.is_busy()]
            if len(earlier) >= ABANDONED_MOST:
                self._patience.pause(OverdueError(f"{len(earlier)} calls to this sink have not returned"))
                continue
            sink = self._sink = BoundedSink(self._entry.key, lambda: self._make(context), call_s=self._call_s)
            self._abandoned.append(sink)
            try:
                remote = dict(sink.open(self._book.state.remote, earlier))
            except FOR_GOOD:
                sink.end()
                raise
            except Exception as error:  # whatever a store's client raises while it cannot be reached
                let_go(sink)
                self._patience.pause(error)
                continue
            self._patience.progressed()
            state = self._book.state
            state.remote, state.closed, state.phase, state.last_error = remote, None, "delivering", None
            self._book.save()
            return sink

    def close(self, sink: BoundedSink, status: RunStatus | None) -> None:
        """Ends the remote run with `status`, None for not at all; waits while its store is down.

        Raises:
            OverdueError: The call has not returned in time.
            StoppedError: There is no other try.
        """
        while True:
            self._check()
            try:
                sink.close(status)
            except OverdueError:
                raise
            except Exception as error:  # whatever a store's client raises when it cannot be told
                self._patience.pause(error, closing=True)
                continue
            break
        self._book.state.closed = status
        self._book.phase("done" if status is not None else "waiting")

    def end_earlier(self) -> None:
        """Ends the remote runs of earlier branches whose delivery was cut off before it could."""
        for state in [] if self._entry.live else self._file.earlier():
            status = state.end or "killed"
            while state.closed is None:
                sink = BoundedSink(self._entry.key, lambda of=state: self._make(self._context(of)), call_s=self._call_s)  # type: ignore[misc]
                try:
                    sink.open(state.remote)
                    sink.close(status)
                except FOR_GOOD as error:
                    self._warn(f"run {state.remote_id}, which is superseded, was not ended: {error}")
                except Exception as error:  # whatever a store's client raises while it cannot be reached
                    let_go(sink)
                    self._patience.pause(error)
                    continue
                sink.end()
                self._patience.progressed()
                state.closed = status
                self._file.save_earlier(state)

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
            ledger=self._book,
            parent_id=manifest.parent,
        )
        return of_branch(context, state)


def let_go(sink: BoundedSink) -> None:
    """Lets go of a sink without ending its run, whatever state it is in."""
    try:
        sink.close(None)
    except Exception:
        # Whatever made us let go is the news; this is only for the log.
        log.warning("%s: letting go failed", sink.key, exc_info=True)
    sink.end()
