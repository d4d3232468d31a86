"""``names.json``: where each of the adapters' metrics comes from, kept while the run goes on.

A run may be killed at any time, so this does not wait for its end. An emission that meets a new name leaves word; a
thread waits a moment for others, since they come together, and keeps them. Each further time it waits twice as long, up
to a minute: so that there are a few versions, however many names there are and however long the run is.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

from rl_logging.extraction.pipeline import Pipeline

FIRST_PAUSE_S: Final = 1.0
MOST_PAUSE_S: Final = 60.0
BEING_KEPT_S: Final = 5.0
"""For so long the end of a run waits for names that are being kept at that moment."""


class Names:
    """The names of one run's adapters.

    Args:
        keep: Called with all of them, by the metric's name in the run; returns whether they are kept now. Called by
            one thread at a time.
    """

    def __init__(self, keep: Callable[[Mapping[str, Mapping[str, Any]]], bool]) -> None:
        self._keep = keep
        self._pipelines: list[Pipeline] = []
        # Re-entrant throughout: a signal handler may end the run in the middle of anything here.
        self._word: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._keeping = threading.RLock()
        self._kept: dict[str, Mapping[str, Any]] = {}
        self._over = False

    def of(self, pipeline: Pipeline) -> None:
        """Has the names of what `pipeline` logs kept too; it calls `met` for each new one."""
        self._pipelines.append(pipeline)
        if len(self._pipelines) == 1:
            # The thread keeps no logger alive that nobody else does.
            weakref.finalize(self, self._word.put, False).atexit = False
            arguments = (self._word, weakref.ref(self))
            threading.Thread(target=_attend, args=arguments, name="rl_logging-names", daemon=True).start()

    def met(self) -> None:
        """There is a new name: costs the caller well under a microsecond."""
        self._word.put(True)

    def keep(self) -> None:
        """Keeps what is not kept yet."""
        with self._keeping:
            self._keep_new()

    def finish(self, *, wait: bool) -> None:
        """Keeps what is not kept yet; nothing is kept after it.

        Args:
            wait: Whether to wait for what is being kept at this moment, which may need this thread.
        """
        self._word.put(False)
        if self._keeping.acquire(timeout=BEING_KEPT_S if wait else 0.0):
            try:
                self._keep_new()
                self._over = True
            finally:
                self._keeping.release()

    def forget(self) -> None:
        """In a forked child: nothing is kept."""
        self._keeping = threading.RLock()
        self._over = True

    def _keep_new(self) -> None:
        if self._over:
            return
        names: dict[str, Mapping[str, Any]] = {}
        for pipeline in self._pipelines:
            for name, origin in pipeline.origins().items():
                names.setdefault(name, dataclasses.asdict(origin))
        if names != self._kept and self._keep(names):
            self._kept = names


def _attend(word: queue.SimpleQueue[bool], names: weakref.ref[Names]) -> None:
    """Keeps new names some time after the word of them, until the run ends."""
    pause_s = FIRST_PAUSE_S
    while word.get() and _pause(word, pause_s):
        known = names()
        if known is None:
            return
        known.keep()
        del known
        pause_s = min(2 * pause_s, MOST_PAUSE_S)


def _pause(word: queue.SimpleQueue[bool], for_s: float) -> bool:
    """Lets further names come; returns False where the run ends meanwhile."""
    until = time.monotonic() + for_s
    while (rest_s := until - time.monotonic()) > 0:
        try:
            if not word.get(timeout=rest_s):
                return False
        except queue.Empty:
            return True
    return True
