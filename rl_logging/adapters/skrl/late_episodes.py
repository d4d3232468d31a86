"""What is told of finished episodes whose figures are still on their way from a device: names now, values later."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping

from rl_logging.adapters.skrl.finished import NEW, OF_WINDOW, SUCCESS_RATE, FinishedEpisodes
from rl_logging.extraction.late import Late


class LateEpisodes:
    """Stands for `FinishedEpisodes` where those are added later; each figure is of the episodes of its own moment.

    Args:
        finished: Where they are added, in the order in which everything arrives that was asked of the device.

    Attributes:
        fresh: Whether any may have been added since the last call of `metrics`.
    """

    def __init__(self, finished: FinishedEpisodes) -> None:
        self._finished = finished
        self.fresh = False
        self._any = False
        self._new = False
        self._successes = False

    def expect(self, *, successes: bool) -> None:
        """Takes notice that episodes may be added, and whether the environment says if they were successes."""
        self.fresh = self._any = self._new = True
        self._successes = self._successes or successes

    def drain(self) -> dict[str, Late]:
        """See `FinishedEpisodes.drain`."""
        expected, self._new = self._new, False
        return _late(self._finished.drain, NEW) if expected else {}

    def metrics(self) -> dict[str, Late]:
        """See `FinishedEpisodes.metrics`."""
        self.fresh = False
        if not self._any:
            return {}
        return _late(self._finished.metrics, (*OF_WINDOW, SUCCESS_RATE) if self._successes else OF_WINDOW)


def _late(read: Callable[[], Mapping[str, float]], names: Iterable[str]) -> dict[str, Late]:
    once = functools.cache(read)  # all at one time, whoever asks first
    return {name: Late(functools.partial(_figure, once, name)) for name in names}


def _figure(read: Callable[[], Mapping[str, float]], name: str) -> float | None:
    return read().get(name)
