"""What a training has recorded and emitted, and what is not written yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

import numpy as np

from rl_logging.extraction.converters import converter_of
from rl_logging.extraction.pipeline import Pipeline

_MOST: Final = 200
_LONGEST_S: Final = 1.0
_EXACT: Final = 2**53
_FIXED: Final = (np.floating, np.integer, np.bool_)

Keys = Callable[[str], tuple[str, ...]]


class Backlog:
    """Takes values and emissions as they come, and works them off many at a time.

    Between two steps, when nothing of ours is in the processor's caches, to name and to write a record costs four
    times as much as right after another one. So a step only notes what there is to log, each with its own step. None
    waits long: what waits is lost with a process that is killed.

    Args:
        pipeline: Through which it is logged.
        keys: Returns the keys under which a value is logged.

    Attributes:
        waiting: Values (key, value, how), and between them the emissions (None, step, figures of our own).
    """

    def __init__(self, pipeline: Pipeline, keys: Keys) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._known: dict[str, tuple[str, ...]] = {}
        self.waiting: deque[tuple[str | None, Any, Any]] = deque()
        # Reentrant: a signal handler may finish the run in the middle. Another thread's flush may come, too.
        self._lock = threading.RLock()
        self._settled_at = monotonic()

    def settle_if_due(self) -> None:
        """Works off everything where it is so much, or so long ago, that it is time to."""
        if len(self.waiting) >= _MOST or monotonic() - self._settled_at > _LONGEST_S:
            self.settle()

    def record(self, key: str, value: object, how: str | None = None) -> None:
        """Takes a value; see `Pipeline.record`.

        Args:
            key: The framework's name.
            value: What was recorded. What may change until it is written, as an array may, is converted at once.
            how: As in `Pipeline.record`.
        """
        kind = type(value)
        if kind is float:
            self.waiting.append((key, value, how))
        elif kind is int and -_EXACT < value < _EXACT:  # type: ignore[operator]
            self.waiting.append((key, float(value), how))  # type: ignore[arg-type]
        elif isinstance(value, _FIXED) and converter_of(kind) is None:
            self.waiting.append((key, float(value), how))
        elif value is not None:
            self.settle()
            self._pass_on(key, value, how)

    def emit(self, step: int, own: Mapping[str, float]) -> None:
        """Takes an emission: what was recorded since the last one is one record.

        Args:
            step: The run's step.
            own: Figures of our own that are in it too.
        """
        self.waiting.append((None, step, own))

    def settle(self) -> None:
        """Works off everything."""
        with self._lock:
            waiting = self.waiting
            self._pipeline.busy += 1
            try:
                while waiting:
                    key, value, rest = waiting.popleft()
                    if key is None:
                        self._pipeline.emit(value, own=rest)
                    else:
                        self._pass_on(key, value, rest)
            finally:
                self._pipeline.busy -= 1
            self._settled_at = monotonic()

    def _pass_on(self, key: str, value: object, how: str | None) -> None:
        names = self._known.get(key)
        if names is None:
            names = self._known[key] = self._keys(key)
        for name in names:
            self._pipeline.record(name, value, how)
