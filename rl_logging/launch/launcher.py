"""Starting and ending whoever delivers a run: a child process, threads of this one, or nobody.

The logger reaches delivery through this module only, which imports it for threads alone.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rl_logging.bundle import Bundle, SinkEntry
from rl_logging.bundle.destination import destinations
from rl_logging.launch.child import DeliveryProcess
from rl_logging.launch.progress import Progress

if TYPE_CHECKING:
    from rl_logging.system_metrics import Sampling


class Delivery:
    """All that delivers one run: nobody, a process, a thread, or both.

    Args:
        bundle: The run.
        mode: ``process``, ``thread`` or ``offline``.
        environ: Environment variables for the delivery process, credentials included.
        objects: Sinks that are objects of this process, by destination key.
        warn: Called with a sink's name and a message the user must see.
        patience_s: For how long to go on trying without progress once the training process is gone.
        system_metrics_s: Seconds between two samples of the machine; None: there are none. The delivery process
            samples; where there is none, a thread of this one does.
        sampled: Called with each sample, from some other thread.
    """

    def __init__(
        self,
        bundle: Bundle,
        mode: str,
        *,
        environ: Mapping[str, str],
        objects: Mapping[str, object],
        warn: Callable[[str, str], None],
        patience_s: float,
        system_metrics_s: float | None = None,
        sampled: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self.progress = Progress(bundle, warn)
        self._warn = warn
        self._take_sample = sampled
        self._system_metrics_s = None if sampled is None else system_metrics_s
        self._sampling: Sampling | None = None
        self._sampling_is_over = False
        # Re-entrant: a signal handler may finish the run in the middle of anything here.
        self._sampling_lock = threading.RLock()
        self._bundle = bundle
        self._objects = objects
        self._patience_s = patience_s
        self._parts: list[_ThreadPart | DeliveryProcess] = []
        entries = destinations(bundle)
        elsewhere = [entry for entry in entries if not entry.live]
        if mode == "offline":
            self._sample_here()
            return
        if elsewhere and mode == "process" and not getattr(sys, "frozen", False):
            process = DeliveryProcess.shared(environ, Path(bundle.manifest.program.cwd))
            self._parts.append(process)
            self.progress.joined()
            process.serve(self)
        elif elsewhere:
            self.take_over()
        if len(elsewhere) < len(entries):
            self._start_thread([entry for entry in entries if entry.live])
        if not any(isinstance(part, DeliveryProcess) for part in self._parts):
            self._sample_here()

    @property
    def bundle(self) -> Bundle:
        """The run."""
        return self._bundle

    @property
    def patience_s(self) -> float:
        """For how long to go on trying without progress."""
        return self._patience_s

    @property
    def system_metrics_s(self) -> float | None:
        """Seconds between two samples of the machine; None: there are none."""
        return self._system_metrics_s

    def sampled(self, values: dict[str, float]) -> None:
        """The delivery process has sampled the machine."""
        if self._take_sample is not None and not self._sampling_is_over:
            self._take_sample(values)

    def stop_sampling(self) -> None:
        """Takes no more samples: the run ends."""
        self._sampling_is_over = True
        with self._sampling_lock:
            if self._sampling is not None:
                self._sampling.stop()

    def left(self) -> None:
        """The delivery process is done with this run, which may go on: where every store has refused it."""
        self.progress.left()
        self._sample_here()

    def take_over(self) -> None:
        """Delivers by a thread of this process what no process delivers."""
        self._start_thread([entry for entry in destinations(self._bundle) if not entry.live])

    def wake(self, wait_s: float = 0.0) -> None:
        """Asks everybody to look for new records at once: somebody waits, for `wait_s` seconds at most."""
        for part in self._parts:
            part.wake(self._bundle.path, wait_s)

    def hurry(self) -> None:
        """Says that nobody waits any more: a process goes on by itself while that goes well, threads end here."""
        for part in self._parts:
            part.hurry(self._bundle.path)

    @property
    def goes_on(self) -> bool:
        """Whether a process of its own still delivers."""
        return self.progress.active and any(isinstance(part, DeliveryProcess) for part in self._parts)

    def _sample_here(self) -> None:
        """Samples the machine in a thread of this process, since no other one does."""
        interval_s = self._system_metrics_s
        with self._sampling_lock:
            if interval_s is None or self._sampling is not None or self._sampling_is_over:
                return
            from rl_logging.system_metrics import Sampling

            self._sampling = Sampling(
                self._bundle.path, interval_s, self.sampled, lambda _, message: self._warn("system_metrics", message)
            )
            self._sampling.start()

    def _start_thread(self, entries: Sequence[SinkEntry]) -> None:
        self.progress.joined()
        self._parts.append(_ThreadPart(self, entries, self._objects))


class _ThreadPart:
    """Delivery by daemon threads of this process."""

    def __init__(self, delivery: Delivery, entries: Sequence[SinkEntry], objects: Mapping[str, object]) -> None:
        from rl_logging.delivery.host import BundleDelivery

        progress = delivery.progress
        self._inner = BundleDelivery(
            delivery.bundle,
            live=True,
            tell=progress.changed,
            warn=progress.warned,
            entries=entries,
            objects=objects,
            patience_s=delivery.patience_s,
        )
        self._inner.start()
        threading.Thread(target=self._see_off, args=(progress,), name="rl_logging-run", daemon=True).start()

    def wake(self, run_dir: Path, wait_s: float) -> None:
        self._inner.wake(wait_s)

    def hurry(self, run_dir: Path) -> None:
        self._inner.stop()

    def _see_off(self, progress: Progress) -> None:
        self._inner.join()
        progress.left()
