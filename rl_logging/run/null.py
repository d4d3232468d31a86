"""A run that keeps nothing: the whole interface, without a file, a thread or a process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rl_logging.bundle import SinkEntry
from rl_logging.bundle.destination import DestinationState
from rl_logging.records import RunStatus
from rl_logging.settings import Loaded


class NullRun:
    """A run that keeps nothing: ``delivery: disabled``.

    Args:
        loaded: The settings.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.path = Path(loaded.settings.dir) / (loaded.settings.name or "disabled")
        self.accepted = 0

    @property
    def on_device(self) -> int:
        """There are none."""
        return 0

    def append(self, kind: str, step: int | None, body: object, time_s: float | None = None) -> int | None:
        """Accepts nothing."""
        return None

    def hold(self, tensors: Sequence[Any], accept: Callable[[list[Any], float], None], *, whole: bool = False) -> None:
        """Asks no device."""

    def settle(self, timeout_s: float) -> bool:
        """Nothing is held."""
        return True

    @property
    def room(self) -> Path | None:
        """There is none."""
        return None

    def states(self) -> dict[str, tuple[SinkEntry, DestinationState]]:
        """There are none."""
        return {}

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Nothing will change."""
        return done()

    def wake(self, wait_s: float) -> None:
        """Nobody is there."""

    def finish(self, status: RunStatus, timeout_s: float) -> None:
        """Nothing was begun."""

    def forget(self) -> None:
        """Nothing is held."""
