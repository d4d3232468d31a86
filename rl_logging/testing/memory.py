"""A store in this process's memory, with faults on demand, and the sink that delivers to it.

Where something can be given by name only, ``factory: "rl_logging.testing.memory:make"`` makes such a sink; its option
``store`` names the `MemoryStore`, which a test in the same process gets with `MemoryStore.named`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

from rl_logging.records import KINDS, End, Record, RunStatus
from rl_logging.sinks import RejectedError, SinkContext, TransientError
from rl_logging.testing.memory_run import MemoryRun
from rl_logging.testing.options import refuse_unknown

EVERYTHING: Final[frozenset[type[Record]]] = frozenset(KINDS.values()) - {End}
"""All kinds of records that reach a sink."""

BLOCK_S: Final = 60.0


class MemoryStore:
    """A store that several sinks, one after the other or at once, deliver to; safe from several threads.

    Its faults hold for all its runs until they are taken back. Whoever waits in one (`hold_writes`) is let go after a
    minute, so that a test that fails does not hang.

    Attributes:
        accepts: Kinds of records its sinks want; read when a sink is made.
        runs: What it holds, by the run's id.
    """

    _named: ClassVar[dict[str, MemoryStore]] = {}
    _naming: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._change = threading.Condition(threading.RLock())
        self._open_faults: list[Exception] = []
        self._write_faults: list[tuple[Exception, int]] = []
        self._refuses: Callable[[Record], bool] | None = None
        self._reason = ""
        self._frozen: dict[str, int] | None = None
        self._writable = threading.Event()
        self._writable.set()
        self._blocked = 0
        self.accepts = EVERYTHING
        self.runs: dict[str, MemoryRun] = {}

    @classmethod
    def named(cls, name: str) -> MemoryStore:
        """Returns the store of this process called `name`, made if there is none."""
        with cls._naming:
            return cls._named.setdefault(name, cls())

    @classmethod
    def forget(cls, name: str) -> None:
        """Drops the store called `name`, so that the next one is new."""
        with cls._naming:
            cls._named.pop(name, None)

    # -- faults -------------------------------------------------------------------------------------------------

    def fail_open(self, times: int = 1, error: Exception | None = None) -> None:
        """Has the next `times` calls of `open` raise `error`; `TransientError` unless given."""
        with self._change:
            self._open_faults += [error or TransientError("the store is down")] * times

    def fail_write(self, times: int = 1, error: Exception | None = None, *, after: int = 0) -> None:
        """Has the next `times` calls of `write` raise `error`; `TransientError` unless given.

        Args:
            times: How many calls.
            error: What they raise.
            after: How many of a batch's records are stored all the same.
        """
        with self._change:
            self._write_faults += [(error or TransientError("the store is down"), after)] * times

    def reject(self, refuses: Callable[[Record], bool] | None, reason: str = "the store does not take it") -> None:
        """Has all records for which `refuses` is true rejected; None: no more."""
        with self._change:
            self._refuses, self._reason = refuses, reason

    def hold_confirmation(self) -> None:
        """Has `confirmed` stay where it is, whatever is stored."""
        with self._change:
            self._frozen = {run_id: run.last for run_id, run in self.runs.items()}

    def release_confirmation(self) -> None:
        """Has `confirmed` tell again what is stored."""
        with self._change:
            self._frozen = None
            self._change.notify_all()

    def hold_writes(self) -> None:
        """Has every `write` wait, as for a store that hangs."""
        self._writable.clear()

    def release_writes(self) -> None:
        """Lets the waiting ones go on."""
        self._writable.set()

    def restore(self) -> None:
        """Takes all faults back."""
        with self._change:
            self._open_faults.clear()
            self._write_faults.clear()
            self._refuses = None
        self.release_confirmation()
        self.release_writes()

    # -- looking ------------------------------------------------------------------------------------------------

    def run(self, run_id: str | None = None) -> MemoryRun:
        """Returns a run; without an id, the only one.

        Raises:
            LookupError: There is no such run, or not just one.
        """
        with self._change:
            if run_id is None and len(self.runs) == 1:
                return next(iter(self.runs.values()))
            if run_id not in self.runs:
                raise LookupError(f"no run {run_id!r} in the store: it has {sorted(self.runs) or 'none'}")
            return self.runs[run_id]

    def wait_for(self, true: Callable[[MemoryStore], bool], timeout_s: float = 60.0) -> bool:
        """Waits until `true(store)`, looking whenever something changed; returns what it says then.

        It is called with the store locked, and may look at `runs`, `run` and `blocked`.
        """
        with self._change:
            return self._change.wait_for(lambda: true(self), timeout_s)

    @property
    def blocked(self) -> int:
        """How many calls of `write` wait in `hold_writes`."""
        return self._blocked

    def make(self, name: str, context: SinkContext, options: Mapping[str, Any]) -> MemorySink:
        """Makes a sink that delivers here: ``ExperimentLogger(sinks={"memory": store.make})``."""
        return MemorySink(context, self)

    # -- what its sinks call ------------------------------------------------------------------------------------

    def _open(self, context: SinkContext, state: Mapping[str, Any] | None) -> dict[str, Any]:
        with self._change:
            run = self.runs.get(context.run_id)
            if run is None:
                run = self.runs[context.run_id] = MemoryRun(context)
            run.opens.append(state)
            run.threads.add(threading.current_thread().name)
            self._change.notify_all()
            if self._open_faults:
                raise self._open_faults.pop(0)
            run.status = "running"
            return {"id": context.run_id, "url": f"memory://{context.run_id}", "opened": len(run.opens)}

    def _write(self, run_id: str, batch: Sequence[Record]) -> None:
        if not self._writable.is_set():
            self._count_blocked(1)
            try:
                if not self._writable.wait(BLOCK_S):
                    raise TransientError(f"the store hung for {BLOCK_S:g} s")
            finally:
                self._count_blocked(-1)
        with self._change:
            run = self.runs[run_id]
            run.threads.add(threading.current_thread().name)
            run.handed += [record.seq for record in batch]
            run.batches.append(tuple(record.seq for record in batch))
            if self._write_faults:
                error, after = self._write_faults.pop(0)
                self._keep(run, batch[:after])
                raise error
            refused = self._keep(run, batch)
            if refused:
                raise RejectedError(self._reason, refused)

    def _keep(self, run: MemoryRun, batch: Sequence[Record]) -> list[Record]:
        refused = [record for record in batch if self._refuses is not None and self._refuses(record)]
        for record in batch:
            if record not in refused:
                run.records.setdefault(record.seq, record)
            run.last = max(run.last, record.seq)
        self._change.notify_all()
        return refused

    def _confirmed(self, run_id: str) -> int:
        with self._change:
            run = self.runs.get(run_id)
            if run is None:
                return 0
            return run.last if self._frozen is None else min(run.last, self._frozen.get(run_id, 0))

    def _close(self, run_id: str, status: RunStatus | None) -> None:
        with self._change:
            run = self.runs.get(run_id)
            if run is None:
                return
            run.closes.append(status)
            run.status = status or run.status
            self._change.notify_all()

    def _count_blocked(self, more: int) -> None:
        with self._change:
            self._blocked += more
            self._change.notify_all()


class MemorySink:
    """Delivers one run to a `MemoryStore`.

    Args:
        context: The run.
        store: The store.
    """

    def __init__(self, context: SinkContext, store: MemoryStore) -> None:
        self.accepts = store.accepts
        self._context = context
        self._store = store
        self._closed = False

    def open(self, state: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """See `rl_logging.sinks.Sink.open`."""
        self._closed = False
        return self._store._open(self._context, state)

    def write(self, batch: Sequence[Record], /) -> None:
        """See `rl_logging.sinks.Sink.write`."""
        self._store._write(self._context.run_id, batch)

    def confirmed(self) -> int:
        """See `rl_logging.sinks.Sink.confirmed`."""
        return self._store._confirmed(self._context.run_id)

    def close(self, status: RunStatus | None, /) -> None:
        """See `rl_logging.sinks.Sink.close`."""
        if not self._closed:
            self._closed = True
            self._store._close(self._context.run_id, status)


def make(name: str, context: SinkContext, options: Mapping[str, Any]) -> MemorySink:
    """Makes a `MemorySink`: a factory for ``{factory: "rl_logging.testing.memory:make", store: NAME}``.

    Args:
        name: The sink's name.
        context: The run.
        options: ``store``, the store's name in `MemoryStore.named`; the sink's name unless given.

    Raises:
        RejectedError: Another option was given.
    """
    refuse_unknown(name, options, ("store",))
    return MemorySink(context, MemoryStore.named(str(options.get("store", name))))
