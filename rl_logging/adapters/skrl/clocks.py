"""One clock for a logger, however many agents it is attached to."""

from __future__ import annotations

import weakref
from typing import Any

from rl_logging.adapters.skrl.timeline import Timeline


class SharedClock:
    """The clock of a logger's step-less calls: that of the attached agent that has moved last.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = weakref.ref(logger)
        self._timelines: list[Timeline] = []
        self._begins_at = 0

    @classmethod
    def of(cls, logger: Any) -> SharedClock:
        """Returns the clock of `logger`, the same for all its agents."""
        clock = _clocks.get(logger)
        if clock is None:
            clock = _clocks[logger] = cls(logger)
        return clock

    @property
    def agents(self) -> int:
        """How many agents are attached."""
        return len(self._timelines)

    def begins_at(self) -> int:
        """Returns where a training begins that nobody has told where.

        It is where the logger's `load_state_dict` has set the clock, or else where the last of the agents stood that
        were attached before; 0 without either, and where the run is told to restart.
        """
        logger = self._logger()
        if logger is None or logger.settings.on_step_reset != "continue":
            return 0
        restored: int | None = logger.take_restored_step()
        if restored is not None:
            self._begins_at = restored
        return self._begins_at

    def join(self, timeline: Timeline) -> None:
        """Adds an agent's timeline, and sets the logger's clock."""
        self._timelines.append(timeline)
        self._set()

    def leave(self, timeline: Timeline) -> None:
        """Takes an agent's timeline away, and the logger's clock with the last one."""
        if timeline in self._timelines:
            self._begins_at = self._now()
            self._timelines.remove(timeline)
            self._set()

    def _set(self) -> None:
        logger = self._logger()
        if logger is not None:
            logger.set_clock(self._now if self._timelines else None)

    def _now(self) -> int:
        return max(self._timelines, key=lambda timeline: timeline.moved).now


_clocks: weakref.WeakKeyDictionary[Any, SharedClock] = weakref.WeakKeyDictionary()
