"""Delivering one bundle: a worker for each of its destinations."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from rl_logging import plugins
from rl_logging.bundle import Bundle, SinkEntry
from rl_logging.bundle.destination import DestinationState, destinations
from rl_logging.delivery.worker import DestinationWorker
from rl_logging.secrets import restore
from rl_logging.sinks import Sink, SinkContext

T = TypeVar("T")
_importing = threading.Lock()
IMPORT_S: Final = 60.0
Tell = Callable[[str, DestinationState], None]
Warn = Callable[[str, str], None]


class BundleDelivery:
    """The workers of one bundle.

    Args:
        bundle: The run.
        live: Whether to wait for what a training process will still write.
        ends: Whether a run without an End record is over when its journal is; False where it may still be running.
        tell: Called with a destination's key and state whenever it changed; from the workers' threads.
        warn: Called with a destination's key and what the user must see.
        entries: The destinations; those of the manifest that are no live objects unless given.
        objects: The sinks that are objects of this process, by key.
        patience_s: Once the run is over: for how long to go on trying without any progress.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        live: bool,
        ends: bool = True,
        tell: Tell,
        warn: Warn,
        entries: Sequence[SinkEntry] | None = None,
        objects: Mapping[str, object] | None = None,
        patience_s: float = 60.0,
    ) -> None:
        if entries is None:
            entries = [entry for entry in destinations(bundle) if not entry.live]
        objects = objects or {}
        self.bundle = bundle
        self.workers = [
            DestinationWorker(
                bundle,
                entry,
                _maker(entry, objects.get(entry.key)),
                live=live,
                ends=ends,
                tell=_bound(tell, entry.key),
                warn=_bound(warn, entry.key),
                patience_s=patience_s,
            )
            for entry in entries
        ]

    def start(self) -> None:
        """Starts the workers."""
        for worker in self.workers:
            worker.start()

    def wake(self, wait_s: float = 0.0) -> None:
        """Somebody waits for what is new, for `wait_s` seconds at most."""
        for worker in self.workers:
            worker.wake(wait_s)

    def run_is_over(self) -> None:
        """The training process is gone."""
        for worker in self.workers:
            worker.run_is_over()

    def hurry(self) -> None:
        """Go on while it goes well, and wait for nothing."""
        for worker in self.workers:
            worker.hurry()

    def stop(self) -> None:
        """Leave what is still owed for later, at once."""
        for worker in self.workers:
            worker.stop()

    def busy_until(self) -> float:
        """Until when (monotonic) large files may be on their way, of which nothing is heard meanwhile."""
        return max((worker.busy_until for worker in self.workers), default=0.0)

    def alive(self) -> bool:
        """Whether any worker is still at it."""
        return any(worker.is_alive() for worker in self.workers)

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits for the workers; True when all have ended."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for worker in self.workers:
            worker.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return not self.alive()


def _maker(entry: SinkEntry, given: object) -> Callable[[SinkContext], Sink]:
    if isinstance(given, Sink):
        return lambda context: given
    if callable(given):
        return lambda context: given(entry.name, context, entry.options)

    def make(context: SinkContext) -> Sink:
        # One after the other: two threads that import SDKs at once can see each other's half-made modules. An import
        # that hangs holds up no other for ever.
        alone = _importing.acquire(timeout=IMPORT_S)
        try:
            plugin = plugins.load(entry.name, entry.factory)
            return plugin.make_sink(context, restore(entry.options, os.environ))
        finally:
            if alone:
                _importing.release()

    return make


def _bound(function: Callable[[str, T], None], key: str) -> Callable[[T], None]:
    return lambda value: function(key, value)
