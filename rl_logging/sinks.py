"""What a sink is: one run delivered to one destination, driven by one thread.

A sink is made in the delivery process by a plugin (`rl_logging.hookspecs`). It is opened, handed batches of records
in order, asked what its store has acknowledged, and closed. It may raise two errors of its own, `TransientError` and
`RejectedError`; whatever else escapes is treated as transient first and, if it persists, blamed on the record that
causes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from rl_logging.records import Record, RunStatus


class TransientError(Exception):
    """The store cannot take it now; the same batch will be handed over again later.

    Args:
        message: What happened, for the user.
        retry_after_s: Seconds the store asked us to wait, where it said.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RejectedError(Exception):
    """The store will never take these records, or (raised by `open`) this run.

    From `write`, it says that everything else in the batch was handed over; from `confirmed`, that the store has
    refused what earlier batches handed over.

    Args:
        message: Why, in the store's words.
        records: The refused ones; empty means the whole batch, and from `confirmed` none.
    """

    def __init__(self, message: str, records: Sequence[Record] = ()) -> None:
        super().__init__(message)
        self.records = tuple(records)


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """The training process a run belongs to."""

    pid: int
    argv: tuple[str, ...]
    cwd: str
    executable: str
    main: str | None = None


class Ledger(Protocol):
    """Where a sink tells what it changed on the way; counted, kept with the destination's state, told at the end."""

    def renamed(self, name: str, stored_as: str) -> None:
        """The store does not take `name`; it has the value as `stored_as`. Counted once a name."""

    def truncated(self, name: str, detail: str) -> None:
        """The store has only a part of `name`. Counted once a name."""

    def merged(self, count: int, detail: str) -> None:
        """`count` equal points became one."""

    def warn(self, message: str) -> None:
        """Something the user must know; shown once in the training process, and at the end."""


class SinkContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a sink may know of its run.

    Attributes:
        run_dir: The run directory; paths in records are relative to it. A sink may keep files of its own below
            ``run_dir / "sinks"`` only.
        run_id: The run's id: 8 characters of [0-9a-z] unless the user chose another; unique, fit for a remote id.
        name: Display name.
        project: The user's project, or None.
        group: Runs that belong together, or None.
        tags: The user's tags at the start.
        notes: Free text, or None.
        created: Wall-clock seconds since the epoch at which the run began.
        program: The training process.
        live: True beside a training process, False in a later `rl-logging sync`.
        ledger: Where to tell what was changed.
        parent_id: The `run_id` of the run that this one is a part of, such as a sweep's; None where it stands alone.
            That run may not be in the store yet, or ever: never wait for it.
        supersedes: What `Sink.open` returned for the remote run that this one takes the place of, because the run went
            back to a checkpoint; None where there is none, and without an ``id`` where that was lost. `run_id` and
            `name` end in a number of their own then. The sink links the two where its store can.
    """

    run_dir: Path
    run_id: str
    name: str
    project: str | None
    group: str | None
    tags: tuple[str, ...]
    notes: str | None
    created: float
    program: Program
    live: bool
    ledger: Ledger
    parent_id: str | None = None
    supersedes: Mapping[str, Any] | None = None


@runtime_checkable
class Sink(Protocol):
    """One run, one destination, one thread.

    The worker calls `open` until it returns, then `write` with rising `seq`, `confirmed` after each write and
    whenever it waits, and `close` once at the end. After a crash the records above the last confirmed one are handed
    over again, to a new object opened with the kept state: writing must be idempotent by `seq`.

    A call that has not returned after 5 minutes (longer where files are large) is left behind with its object, and a
    new object is opened as after a crash; so give the store's client timeouts of its own. A sink may have a method
    ``abandon()``, which is then called from another thread to make the call return; when it has, `close` is called
    with None.

    What a record's `path` names lies in the run directory when `write` is given it: a PNG, an MP4 (a GIF where no
    encoder can be had), a file or a folder.
    """

    accepts: frozenset[type[Record]]
    """Kinds of records it wants; the others are skipped and counted. `End` never reaches `write`: see `close`."""

    def open(self, state: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Opens or creates the remote run.

        Args:
            state: What the last `open` for this run and destination returned; None the first time.

        Returns:
            JSON values to keep for the next time, saved before the first `write`. ``id`` (the remote run's) and
            ``url`` (where a person looks at it, or a path) are shown to the user; other keys are the sink's own.

        Raises:
            TransientError: Not now.
            RejectedError: Never; delivery to this destination stops and the user is told.
        """
        ...

    def write(self, batch: Sequence[Record], /) -> None:
        """Hands records over to the store; it need not have them yet when this returns.

        Raises:
            TransientError: Not now; none, some or all may have been stored.
            RejectedError: These never; all others of the batch are handed over.
        """
        ...

    def confirmed(self) -> int:
        """Returns the `seq` up to which the store itself has acknowledged everything handed over; 0 for nothing.

        Raises:
            RejectedError: The store took these records from `write` and has refused them since. They are no longer
                owed, and it is asked again.
        """
        ...

    def close(self, status: RunStatus | None, /) -> None:
        """Ends the remote run with `status` and lets go of it; None lets go without ending it. Idempotent.

        After it, `confirmed` still answers.
        """
        ...
