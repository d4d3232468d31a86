"""A run as the training process holds it: its directory, its journal, and whoever delivers it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rl_logging.bundle import BundleError, SinkEntry
from rl_logging.bundle.destination import DestinationState
from rl_logging.bundle.trimming import trim
from rl_logging.journal import JournalError
from rl_logging.launch import Delivery
from rl_logging.records import End, Metrics, RunStatus, body_of
from rl_logging.run.arriving import ArrivingRecords
from rl_logging.run.delivered import is_stuck, let_go, wait_for_delivery
from rl_logging.run.device_copies import DeviceCopies, may_wait_beside_captures
from rl_logging.run.interface import Stamp, WarnOnce
from rl_logging.run.look_around import LookAround
from rl_logging.run.opening import open_run
from rl_logging.settings import Loaded

ENVIRONMENT_S: Final = 10.0


class JournaledRun:
    """A run with a directory of its own.

    Args:
        loaded: The settings.
        warn_once: Called with a key and a message for the user; shows each key once.
        stamp: Gives a sample of the machine its step, and says which of its figures are logged.

    Raises:
        SettingsError: The directory cannot be made, a sink cannot be had, or its options are wrong.
    """

    def __init__(self, loaded: Loaded, warn_once: WarnOnce, stamp: Stamp) -> None:
        settings = loaded.settings
        self._warn_once = warn_once
        self._stamp = stamp
        opened = open_run(loaded, warn_once)
        self.bundle = opened.bundle
        self.resumed = opened.resumed
        self.first_step = opened.first_step
        self._claim = opened.claim
        self._journal = opened.journal
        self._destinations = opened.destinations
        self._claim.on_lost(self._disowned)
        self._arriving = ArrivingRecords(DeviceCopies(), may_wait_beside_captures, warn_once)
        try:
            self._delivery = Delivery(
                self.bundle,
                settings.delivery,
                environ={**os.environ, **opened.environ},
                objects=opened.objects,
                warn=self._warn_of_sink,
                patience_s=settings.finish_timeout_s,
                system_metrics_s=settings.system_metrics_s,
                sampled=self._log_sample,
            )
        except BaseException:
            self._claim.abandon()
            raise
        self._look_around = LookAround(self.bundle, self.append, warn_once)

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.bundle.path

    @property
    def accepted(self) -> int:
        """How many records were accepted."""
        return self._journal.seq

    @property
    def goes_on(self) -> bool:
        """Whether a process of its own still delivers, and is not about to give up on stores that are down."""
        return self._delivery.goes_on and not is_stuck(self._delivery)

    @property
    def interrupted(self) -> bool:
        """Whether the caller, a signal handler, has interrupted this thread in the middle of an append."""
        return self._journal.interrupted or self._arriving.interrupted

    @property
    def lost(self) -> int:
        """How many records the disk did not take, or a device did not give."""
        return self._journal.lost + self._arriving.lost

    @property
    def on_device(self) -> int:
        """See `Run.on_device`."""
        return len(self._arriving)

    def append(self, kind: str, step: int | None, body: object, time_s: float | None = None) -> int | None:
        """See `Run.append`."""
        if time_s is not None and not self._arriving.admits():
            return None
        try:
            seq = self._journal.append(kind, step, body, time_s)
            if seq is None and time_s is not None:
                self._arriving.missed()
            return seq
        except JournalError as error:
            self._warn_once("journal", f"what is logged is not kept: {error}; training goes on")
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            self._warn_once(f"journal {kind}", f"a {kind} record was not kept: {error}")
        return None

    def hold(self, tensors: Sequence[Any], accept: Callable[[list[Any], float], None], *, whole: bool = False) -> None:
        """See `Run.hold`."""
        time_s = self._journal.now()
        self._arriving.hold(tensors, lambda values: accept(values, time_s), whole=whole)

    def settle(self, timeout_s: float) -> bool:
        """See `Run.settle`."""
        return self._arriving.settle(timeout_s)

    @property
    def room(self) -> Path | None:
        """See `Run.room`."""
        return self.path

    def states(self) -> dict[str, tuple[SinkEntry, DestinationState]]:
        """See `Run.states`."""
        known = self._delivery.progress.states
        return {name: (entry, known[entry.key]) for name, entry in self._destinations.items()}

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """See `Run.wait`."""
        progress = self._delivery.progress
        progress.wait(lambda: done() or not progress.active, timeout_s)
        return done()

    def wake(self, wait_s: float) -> None:
        """See `Run.wake`."""
        self._delivery.wake(wait_s)

    def finish(self, status: RunStatus, timeout_s: float) -> None:
        """See `Run.finish`: writes the End record, and waits while delivery gets anywhere.

        With every unfinished destination in backoff it waits 5 seconds only. What is then still owed stays in the
        run directory: a store that is down is left for later, and a process that gets on goes on by itself.
        """
        self._delivery.stop_sampling()
        if self.interrupted:
            # A signal handler's call, in the middle of an append: the End record is written right after that one,
            # so nobody can wait for it here. Delivery sees it, or the process's end, by itself.
            self._arriving.close(0.0)
            self._arriving.afterwards(lambda: self._seal(status))
            return
        deadline = time.monotonic() + timeout_s
        try:
            try:
                self._look_around.join(min(ENVIRONMENT_S, timeout_s))
                self._arriving.close(max(0.0, deadline - time.monotonic()))
            finally:  # Ctrl-C: the run is over all the same
                self._seal(status)
                self._journal.close()
            if self._delivery.progress.active:
                self._wait_for_delivery(deadline)
        finally:
            let_go(self._delivery, self._destinations.values())
            self._claim.release(self._journal.seq)
            self._trim()

    def _trim(self) -> None:
        try:
            trim(self.bundle, over=True)
        except (OSError, BundleError, JournalError) as error:
            self._warn_once("keep", f"keep: the journal stays as it is: {error}")

    def _wait_for_delivery(self, deadline: float) -> None:
        wait_for_delivery(self._delivery, deadline)

    def _log_sample(self, values: dict[str, float]) -> None:
        step, kept = self._stamp(values)
        if kept:
            self.append(Metrics.kind, step, kept)

    def _seal(self, status: RunStatus) -> None:
        try:
            self._journal.seal(End.kind, body_of(End(seq=0, time=0.0, status=status)))
        except JournalError as error:
            self._warn_once("journal", f"the run's end is not kept: {error}")

    def _disowned(self) -> None:
        """Another process goes on with the run: this one was silent for too long."""
        why = f"another process has taken over {self.path}, after this one was silent for too long"
        self._journal.disown(why)
        self._warn_once("journal", f"what is logged is not kept: {why}; training goes on")

    def forget(self) -> None:
        """See `Run.forget`."""
        self._arriving.forget()
        self._journal.forget()
        self._claim.forget()

    def _warn_of_sink(self, sink: str, message: str) -> None:
        self._warn_once(f"{sink}: {message}", f"{sink}: {message}")
