"""The sink: one W&B run, offline or online, that counts as delivered only what W&B is seen to have."""

from __future__ import annotations

import logging
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import wandb

from rl_logging.records import Record, RunStatus
from rl_logging.sinks import RejectedError, SinkContext, TransientError
from rl_logging_wandb import opening, origin, remote_run, rows, sdk, service, values
from rl_logging_wandb.offline_store import OfflineStore
from rl_logging_wandb.online_store import OnlineStore
from rl_logging_wandb.stores import Check
from rl_logging_wandb.uploads import RefusedError
from rl_logging_wandb.writer import RunWriter, kinds

_log = logging.getLogger("rl_logging.wandb")

MAX_UNCONFIRMED: Final = 20_000
"""Records handed over beyond this wait until W&B has acknowledged some; the journal keeps them better than memory."""

SETTLE_TIMEOUT_S: Final = 10.0
"""How long `close` waits for W&B to acknowledge what it was given."""

EXIT_CODES: Final[Mapping[RunStatus, int]] = {"finished": 0, "failed": 1, "killed": 255}
"""What W&B reads a run's state from; 255 is what its own client sends after Ctrl-C."""


class _Owed(msgspec.Struct, frozen=True):
    record: Record
    is_stored: Check


class WandbSink:
    """Delivers one run to W&B.

    Args:
        context: The run.
        options: Resolved options, ``mode`` among them.
    """

    accepts: frozenset[type[Record]] = kinds()

    def __init__(self, context: SinkContext, options: Mapping[str, Any]) -> None:
        self._context = context
        self._options = options
        self._temporary: list[str] = []
        self._state: dict[str, Any] = {}
        self._run: wandb.Run | None = None
        self._core: subprocess.Popen[bytes] | None = None
        self._store: OfflineStore | OnlineStore
        self._writer: RunWriter
        self._owed: deque[_Owed] = deque()
        self._refused: dict[int, str] = {}
        self._refused_late: list[tuple[Record, str]] = []
        self._handed_over = 0
        self._confirmed = 0
        self._lost = False
        self._closed = False

    def open(self, state: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Opens or creates the W&B run; offline, a run opened again goes on in a directory of its own.

        Raises:
            TransientError: The server cannot be reached now.
            RejectedError: Credentials or options are refused.
        """
        run_id = str((state or {}).get("id") or origin.own_id(self._options, self._context))
        service.acquire(run_id)
        try:
            service.wait_for_the_end_of((state or {}).get("core"))
            self._run, self._store, opened = self._open(run_id, state)
            run = self._run
            # Hidden: it is the charts' axis, not one of them. Named first, "*" does not fall upon it.
            run.define_metric(values.STEP_METRIC, hidden=True)
            run.define_metric("*", step_metric=values.STEP_METRIC)
            origin.leave_note(run, self._context, opened["base"])
        except BaseException:
            service.release(run_id)
            raise
        self._core = sdk.core_process()
        opened["core"] = service.identity()
        self._writer = RunWriter(run, self._store, self._context, self._options, opened["base"])
        self._state = opened
        return opened

    def write(self, batch: Sequence[Record], /) -> None:
        """Hands the records over; those W&B has already are passed by.

        Raises:
            TransientError: wandb-core is gone, or W&B is far behind with acknowledging.
            RejectedError: These cannot be stored by W&B.
        """
        if self._lost:
            self._open_again()
        if len(self._owed) > MAX_UNCONFIRMED:
            self._look()
            if len(self._owed) > MAX_UNCONFIRMED:
                raise TransientError(f"W&B has not acknowledged {len(self._owed)} records yet", retry_after_s=1.0)
        refused = self._hand_over([record for record in batch if record.seq > self._handed_over], self._owed)
        # A batch cut short by a TransientError comes again, and with it those refused the first time.
        self._refused |= {record.seq: reason for record, reason in refused}
        if self._lost:
            raise TransientError("wandb-core is gone", retry_after_s=0.5)
        rejected = [record for record in batch if record.seq in self._refused]
        if rejected:
            raise RejectedError("; ".join(dict.fromkeys(self._refused.pop(r.seq) for r in rejected)), rejected)

    def confirmed(self) -> int:
        """Returns the `seq` up to which the offline files, or the server, have everything handed over.

        Raises:
            TransientError: wandb-core is gone, or the server has not answered for a while.
            RejectedError: The server took these with their batch and has refused them since.
        """
        if self._owed and not self._closed:
            if self._lost or (self._core is not None and self._core.poll() is not None):
                self._open_again()
            self._look()
        if self._refused_late:
            late, self._refused_late = self._refused_late, []
            raise RejectedError("; ".join(dict.fromkeys(reason for _, reason in late)), [record for record, _ in late])
        if self._owed and not self._closed and self._store.outage is not None:
            raise TransientError(self._store.outage)
        return self._confirmed

    def close(self, status: RunStatus | None, /) -> None:
        """Ends the run with `status`; None leaves it unended, for a later open to go on.

        Raises:
            TransientError: wandb-core is gone and there is no other now; a run that is only let go is let go anyway.
        """
        if self._closed or self._run is None:
            return
        try:
            if self._lost:
                self._open_again()
            try:
                self._end(status)
            except sdk.SERVICE_GONE:
                # Some records were taken and then lost with wandb-core; there is one more try in a new one.
                self._open_again()
                self._end(status)
        except TransientError:
            if status is not None:
                raise
            _log.warning("run %s is let go without wandb-core", self._state["id"], exc_info=True)
        except BaseException:
            self._release()
            raise
        self._wait_until_settled()
        self._release()

    def abandon(self) -> None:
        """Ends the wandb-core that a call waits for; from another thread."""
        service.kill()

    def _release(self) -> None:
        self._closed = True
        service.release(self._state["id"])
        for folder in self._temporary:
            shutil.rmtree(folder, ignore_errors=True)

    def _open(self, run_id: str, state: Mapping[str, Any] | None) -> remote_run.RemoteRun:
        if self._options["mode"] == "offline":
            return remote_run.open_offline(self._context, self._options, run_id, state)
        options = opening.with_locks(self._options)
        if options is not self._options:
            self._temporary.append(str(options["dir"]))
        return remote_run.open_online(self._context, options, run_id, state)

    def _need_run(self) -> wandb.Run:
        if self._run is None:
            raise RuntimeError("the W&B sink was used before open()")
        return self._run

    def _hand_over(self, records: Iterable[Record], owed: deque[_Owed]) -> list[tuple[Record, str]]:
        """Hands `records` over and adds them to `owed`, until wandb-core is found to be gone.

        Returns:
            Those that are refused, and why.
        """
        refused = []
        for part in rows.parts(records, self._writer.has_row, self._context.ledger):
            taken: Sequence[Record] = part.records if isinstance(part, rows.Row) else (part,)
            try:
                check = self._writer.hand_over(part)
            except sdk.SERVICE_GONE as error:
                _log.warning("wandb-core is gone: %r", error)
                self._lost = True
                break
            except (FileNotFoundError, ValueError, TypeError) as error:
                refused += [(record, _told(record, error)) for record in taken]
            else:
                owed.extend(_Owed(record, check) for record in taken)
            self._handed_over = max(self._handed_over, taken[-1].seq)
        return refused

    def _look(self) -> None:
        """Finds out what of the owed is stored, or refused."""
        self._store.refresh()
        try:
            while self._owed:
                entry = self._owed[0]
                try:
                    if not entry.is_stored():
                        return
                    self._confirmed = entry.record.seq
                except RefusedError as error:
                    self._refused_late.append((entry.record, _told(entry.record, error)))
                self._owed.popleft()
        except sdk.SERVICE_GONE as error:  # in sending again what was not taken
            _log.warning("wandb-core is gone: %r", error)
            self._lost = True
            return
        # Rejected records are nobody's debt.
        self._confirmed = self._handed_over

    def _open_again(self) -> None:
        """Goes on in a new wandb-core, and hands over anew what is owed.

        Raises:
            TransientError: That does not work now; nothing is forgotten.
        """
        _log.warning("wandb-core ended; run %s goes on in a new one", self._state["id"])
        self._lost = True
        service.release(self._state["id"])
        try:
            self.open(self._state)
        except RejectedError as error:
            # It was taken before: what is handed over stays owed, whatever has become of the credentials.
            raise TransientError(str(error)) from error
        self._lost = False
        owed: deque[_Owed] = deque()
        refused = self._hand_over([entry.record for entry in self._owed], owed)
        if self._lost:
            raise TransientError("wandb-core is gone again", retry_after_s=0.5)
        self._refused_late += refused
        self._owed = owed

    def _end(self, status: RunStatus | None) -> None:
        run = self._need_run()
        if status is None:
            self._wait_until_settled()
            sdk.let_go(run, self._context.ledger.warn)
        else:
            run.finish(exit_code=EXIT_CODES[status])
            self._wait_for_the_end_record()

    def _wait_until_settled(self) -> None:
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        self._look()
        while self._owed and not self._lost and time.monotonic() < deadline:
            time.sleep(0.05)
            self._look()

    def _wait_for_the_end_record(self) -> None:
        """Waits until an offline run's end is on disk; `finish` returns when wandb-core has merely taken it."""
        store = self._store
        if not isinstance(store, OfflineStore):
            return
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        store.refresh()
        while not store.ended and time.monotonic() < deadline:
            time.sleep(0.02)
            store.refresh()
        if not store.ended:
            self._context.ledger.warn(
                f"W&B did not write the end of the run to {self._state['url']}; is the disk full?"
            )


def _told(record: Record, error: Exception) -> str:
    return f"{record.kind} {getattr(record, 'name', record.seq)}: {error}"
