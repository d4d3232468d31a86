"""The sink: one W&B run, offline or online, that counts as delivered only what W&B is seen to have."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import wandb
from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

from rl_logging.records import Record, RunStatus
from rl_logging.sinks import RejectedError, SinkContext, TransientError
from rl_logging_wandb import opening, service, values
from rl_logging_wandb.stores import OfflineStore, OnlineStore, without_internals
from rl_logging_wandb.writer import Check, RunWriter, kinds

_log = logging.getLogger("rl_logging.wandb")

MAX_UNCONFIRMED: Final = 20_000
"""Records handed over beyond this wait until W&B has acknowledged some; the journal keeps them better than memory."""

SETTLE_TIMEOUT_S: Final = 10.0
"""How long `close` waits for W&B to acknowledge what it was given."""

EXIT_CODES: Final[Mapping[RunStatus, int]] = {"finished": 0, "failed": 1, "killed": 255}
"""What W&B reads a run's state from; 255 is what its own client sends after Ctrl-C."""

SERVICE_GONE: Final = (ConnectionError, HandleAbandonedError, MailboxClosedError)


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
        self._offline = options["mode"] == "offline"
        self._state: dict[str, Any] = {}
        self._run: wandb.Run | None = None
        self._store: OfflineStore | OnlineStore
        self._writer: RunWriter
        self._owed: deque[_Owed] = deque()
        self._refused: dict[int, str] = {}
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
        run_id = str((state or {}).get("id") or self._options.get("id") or self._context.run_id)
        service.acquire(run_id)
        try:
            opened = self._open_offline(run_id, state) if self._offline else self._open_online(run_id, state)
            run = self._need_run()
            # Hidden: it is the charts' axis, not one of them. Named first, "*" does not fall upon it.
            run.define_metric(values.STEP_METRIC, hidden=True)
            run.define_metric("*", step_metric=values.STEP_METRIC)
        except BaseException:
            service.release(run_id)
            raise
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
        if len(self._owed) > MAX_UNCONFIRMED and self.confirmed() < self._handed_over - MAX_UNCONFIRMED:
            raise TransientError(f"W&B has not acknowledged {len(self._owed)} records yet", retry_after_s=1.0)
        for record in batch:
            if record.seq > self._handed_over:
                try:
                    self._hand_over(record)
                except (FileNotFoundError, ValueError, TypeError) as error:
                    self._refused[record.seq] = f"{record.kind} {getattr(record, 'name', record.seq)}: {error}"
                self._handed_over = record.seq
        # A batch cut short by a TransientError comes again, and with it those refused the first time.
        rejected = [record for record in batch if record.seq in self._refused]
        if rejected:
            raise RejectedError("; ".join(dict.fromkeys(self._refused.pop(r.seq) for r in rejected)), rejected)

    def confirmed(self) -> int:
        """Returns the `seq` up to which the offline files, or the server, have everything handed over."""
        if self._owed and not self._closed:
            self._store.refresh()
            self._settle()
        return self._confirmed

    def close(self, status: RunStatus | None, /) -> None:
        """Ends the run with `status`; None leaves it unended, for a later open to go on."""
        if self._closed or self._run is None:
            return
        try:
            if self._lost:
                self._open_again()
            self._end(status)
        except SERVICE_GONE:
            # Some records were taken and then lost with wandb-core; there is one more try in a new one.
            self._open_again()
            self._end(status)
        finally:
            self._wait_until_settled()
            self._closed = True
            service.release(self._state["id"])

    def _open_offline(self, run_id: str, state: Mapping[str, Any] | None) -> dict[str, Any]:
        found = opening.run_directories(self._options, run_id, offline=True)
        if state is None:
            # Not ours: an earlier run of the same id in the same folder. Ours goes on above its rows.
            foreign, own = found, []
        else:
            foreign = [Path(path) for path in state.get("foreign", ())]
            own = [path for path in found if path not in foreign]
        earlier = OfflineStore(foreign)
        earlier.refresh()
        store = OfflineStore(own)
        store.refresh()
        continued = bool(own)
        self._run = opening.init_run(
            self._context,
            self._options,
            run_id,
            tags=store.tags if continued else None,
            notes=store.notes if continued else None,
        )
        directory = Path(self._run.dir).parent
        if continued:
            # Each directory is synced as a whole run: without this the last one's config and summary would replace
            # the earlier ones'.
            self._run.config.update(without_internals(store.config), allow_val_change=True)
            self._run.summary.update(without_internals(store.summary))
        store.add(directory)
        self._store = store
        return {
            "id": run_id,
            "url": str(directory),
            "base": int(state["base"]) if state is not None else max(earlier.last_step, 0),
            "fragments": [str(path) for path in [*own, directory]],
            "foreign": [str(path) for path in foreign],
        }

    def _open_online(self, run_id: str, state: Mapping[str, Any] | None) -> dict[str, Any]:
        self._run = run = opening.init_run(self._context, self._options, run_id)
        path = f"{run.entity}/{run.project}/{run.id}"
        last_step = int(run.starting_step) - 1
        self._store = OnlineStore(path, run.settings.base_url, last_step, self._context.ledger.warn)
        self._store.config = without_internals(dict(run.config))
        return {
            "id": run_id,
            "url": run.url,
            "path": path,
            "base": int(state["base"]) if state is not None else max(last_step, 0),
        }

    def _need_run(self) -> wandb.Run:
        if self._run is None:
            raise RuntimeError("the W&B sink was used before open()")
        return self._run

    def _hand_over(self, record: Record) -> None:
        try:
            check = self._writer.hand_over(record)
        except SERVICE_GONE as error:
            self._lost = True
            raise TransientError(f"wandb-core is gone: {error}", retry_after_s=0.5) from error
        self._owed.append(_Owed(record, check))

    def _settle(self) -> None:
        while self._owed and self._owed[0].is_stored():
            self._confirmed = self._owed.popleft().record.seq
        if not self._owed:
            # Rejected records are nobody's debt.
            self._confirmed = self._handed_over

    def _open_again(self) -> None:
        _log.warning("wandb-core ended; run %s goes on in a new one", self._state["id"])
        service.release(self._state["id"])
        self.open(self._state)
        self._lost = False
        owed, self._owed = self._owed, deque()
        for entry in owed:
            self._hand_over(entry.record)

    def _end(self, status: RunStatus | None) -> None:
        run = self._need_run()
        if status is None:
            self._wait_until_settled()
            _let_go(run)
        else:
            run.finish(exit_code=EXIT_CODES[status])
            self._wait_for_the_end_record()

    def _wait_until_settled(self) -> None:
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while self.confirmed() < self._handed_over and time.monotonic() < deadline:
            time.sleep(0.05)

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


def _let_go(run: wandb.Run) -> None:
    """Ends the SDK's part of `run` and sends no exit record: W&B takes it for one that may go on.

    The SDK has no public way to do this, `finish` always ends the run too.
    """
    run._is_finished = True
    library = run._wl
    if library is None:
        return
    library.remove_active_run(run)
    if run._run_status_checker is not None:
        run._run_status_checker.stop()
    if run._run_messages is not None:
        # Its last message comes with the exit that is not sent.
        run._run_messages.stop(timeout=0)
    for hook in run._teardown_hooks:
        hook.call()
    library.assert_service().inform_finish(run_id=run.id)
