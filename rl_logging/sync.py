"""Delivering what run directories still owe, later or from elsewhere."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from rl_logging.bundle import Bundle, BundleError, SinkEntry
from rl_logging.bundle.destination import DestinationFile, DestinationState, add_destination
from rl_logging.bundle.entries import EntryError, make_entry
from rl_logging.bundle.owing import Owing, owing
from rl_logging.delivery import BundleDelivery
from rl_logging.hookspecs import Surroundings
from rl_logging.settings.sinks import SinkSettings

PATIENCE_S: Final = 30.0
"""For how long to go on without any progress."""

LOOK_EVERY_S: Final = 0.5

Tell = Callable[[str, DestinationState], None]
Warn = Callable[[str, str], None]


def add(bundle: Bundle, sink: SinkSettings) -> str:
    """Has a run go to a destination that it was not configured for.

    Args:
        bundle: The run.
        sink: The sink and its options, completed from this process's environment and directory.

    Returns:
        The destination's key; that of a known one where the options lead there.

    Raises:
        BundleError: The sink cannot be had, or does not take the options.
        OSError: The run directory cannot be written; a `NoLockError` where it cannot even be locked.
    """
    manifest = bundle.manifest
    # A run that is named by the environment is one run; what is synced is many.
    environ = {key: value for key, value in os.environ.items() if key != "MLFLOW_RUN_ID"}
    surroundings = Surroundings(
        project=manifest.project,
        cwd=Path.cwd(),
        environ=environ,
        run_name=manifest.name,
        run_id=manifest.id,
        parent_id=manifest.parent,
    )
    try:
        entry, credentials = make_entry(sink, surroundings)
    except EntryError as error:
        raise BundleError(str(error)) from error
    os.environ.update(credentials)
    add_destination(bundle, entry)
    return entry.key


class BundleSync:
    """Delivers what one run still owes.

    Args:
        bundle: The run.
        debts: What `owing` returned.
        tell: Called with a destination's key and state whenever it changed.
        warn: Called with a destination's key and what the user must see.
        watch: Whether to go on until the run is over, instead of until what is there now is delivered.
    """

    def __init__(self, bundle: Bundle, debts: Sequence[Owing], tell: Tell, warn: Warn, *, watch: bool = False) -> None:
        self._bundle = bundle
        self._debts = debts
        self._tell = tell
        self._warn = warn
        self._watch = watch
        self._stopped = threading.Event()

    def run(self) -> list[Owing]:
        """Delivers until it is done, nothing has moved for `PATIENCE_S` seconds, or `stop` was called.

        What another process is delivering is left to it, and awaited once the run is over.

        Returns:
            What is owed now.

        Raises:
            NoLockError: Nothing can be delivered from here.
            BundleError: The run directory is damaged.
        """
        entries = [debt.entry for debt in self._debts if debt.deliverable(watched=self._watch)]
        over = self._bundle.abandoned()
        free = [entry for entry in entries if self._is_free(entry, wait=over)]
        if over or not self._watch:  # who watches tries again and again
            entries = free
        if entries and not self._stopped.is_set():
            delivery = BundleDelivery(
                self._bundle,
                live=self._watch and not over,
                ends=over or self._watch,
                tell=self._tell,
                warn=self._warn,
                entries=entries,
                patience_s=PATIENCE_S,
            )
            delivery.start()
            self._see_through(delivery)
        return [debt for debt in owing(self._bundle) if debt.entry.key in {it.entry.key for it in self._debts}]

    def stop(self) -> None:
        """Leaves what is still owed for another time; `run` then returns soon."""
        self._stopped.set()

    def _see_through(self, delivery: BundleDelivery) -> None:
        watched = self._watch
        while not delivery.join(LOOK_EVERY_S):
            if self._stopped.is_set():
                delivery.stop()
                delivery.join(PATIENCE_S)
                return
            if watched and self._bundle.abandoned():
                watched = False
                delivery.run_is_over()

    def _is_free(self, entry: SinkEntry, *, wait: bool) -> bool:
        """Returns whether nobody else delivers to `entry`; waits for that while whoever does gets on, if `wait`."""
        file = DestinationFile(self._bundle, entry)
        before, moved_at = -1, time.monotonic()
        while file.being_delivered():
            state = file.load()
            self._tell(entry.key, state)
            if state.confirmed != before:
                before, moved_at = state.confirmed, time.monotonic()
            if not wait or time.monotonic() - moved_at > PATIENCE_S or self._stopped.wait(LOOK_EVERY_S):
                return False
        return True
