"""Sampling the machine once an interval, in a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Final

from rl_logging.system_metrics.gpus import Gpus
from rl_logging.system_metrics.machine import Machine, Tell

log = logging.getLogger("rl_logging.system_metrics")

FIRST_S: Final = 0.2


class Sampling:
    """Hands over a sample right after its start, and then one each interval, until it is stopped.

    Args:
        folder: Its file system is the disk that is meant.
        interval_s: Seconds between two samples.
        take: Called with names to figures, from the sampling thread.
        tell: Called with (key, message) about what cannot be had, once a key, from that thread too.
    """

    def __init__(
        self, folder: str | os.PathLike[str], interval_s: float, take: Callable[[dict[str, float]], None], tell: Tell
    ) -> None:
        self._folder = folder
        self._interval_s = interval_s
        self._take = take
        self._tell = tell
        self._told: set[str] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rl_logging-system", daemon=True)

    def start(self) -> None:
        """Starts the thread; where the system gives none, that is told."""
        try:
            self._thread.start()
        except RuntimeError as error:
            self._tell_once("thread", f"the machine cannot be sampled: {error}")

    def stop(self) -> None:
        """Hands over no more, and ends the thread soon; returns at once. Idempotent."""
        self._stopped.set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits for the thread's end; returns whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._sample_all()
        except Exception:  # the thread's edge: a sample is never worth more than a line in the log
            log.exception("sampling the machine failed")

    def _sample_all(self) -> None:
        machine = Machine(self._folder, self._tell_once)
        gpus = Gpus(self._tell_once)
        wait_s = FIRST_S  # what processors do in no time at all cannot be said
        try:
            while not self._stopped.wait(wait_s):
                figures = {**machine.figures(), **gpus.figures()}
                if figures and not self._stopped.is_set():
                    self._take(figures)
                wait_s = self._interval_s
        finally:
            gpus.close()

    def _tell_once(self, key: str, message: str) -> None:
        if key not in self._told:
            self._told.add(key)
            self._tell(key, message)
