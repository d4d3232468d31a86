"""What the logger writes to: a run, whoever keeps it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from rl_logging.bundle import SinkEntry
from rl_logging.bundle.destination import DestinationState
from rl_logging.records import RunStatus

WarnOnce = Callable[[str, str], None]
"""Takes a key and a message for the user; shows each key once."""
Stamp = Callable[[dict[str, float]], tuple[int, dict[str, float]]]
"""Gives a sample of the machine its step, and says which of its figures are logged."""


class Run(Protocol):
    """What the logger writes to."""

    @property
    def path(self) -> Path:
        """The run directory."""
        ...

    @property
    def accepted(self) -> int:
        """How many records were accepted."""
        ...

    @property
    def on_device(self) -> int:
        """How many records' values are still on a device; these are not accepted yet."""
        ...

    def append(self, kind: str, step: int | None, body: object, time_s: float | None = None) -> int | None:
        """Accepts a record and returns its seq; None where it was not accepted, which was told."""
        ...

    def hold(self, tensors: Sequence[Any], accept: Callable[[list[Any], float], None], *, whole: bool = False) -> None:
        """Has `accept` called, once the values of CUDA tensors are there, with them and the time of this call.

        They arrive as floats; with `whole` as tensors in the host's memory.
        """
        ...

    def settle(self, timeout_s: float) -> bool:
        """Waits until no record's values are on a device any more; returns whether it is so."""
        ...

    @property
    def room(self) -> Path | None:
        """The run directory, for what records point to; None where nothing is kept."""
        ...

    def states(self) -> dict[str, tuple[SinkEntry, DestinationState]]:
        """Returns what each destination has, by the sink's name."""
        ...

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Waits for `done()` while anybody delivers, looking whenever a destination's state changes."""
        ...

    def wake(self, wait_s: float) -> None:
        """Has everything delivered at once: somebody waits for it, for `wait_s` seconds at most."""
        ...

    def finish(self, status: RunStatus, timeout_s: float) -> None:
        """Ends the run."""
        ...

    def forget(self) -> None:
        """Lets go of everything in a forked child."""
        ...
