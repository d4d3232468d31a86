"""Waiting at a run's end for its delivery, for as long as that gets anywhere, and letting go of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import Final

import msgspec

from rl_logging.bundle import SinkEntry
from rl_logging.bundle.destination import DestinationFile
from rl_logging.launch import Delivery

HOPELESS_S: Final = 5.0
STOP_S: Final = 3.0


def is_stuck(delivery: Delivery) -> bool:
    """Whether nobody is getting anywhere: each destination is done, refuses, or waits for its store."""
    phases = [state.phase for state in delivery.progress.states.values()]
    return "backoff" in phases and all(phase in ("backoff", "done", "refused") for phase in phases)


def wait_for_delivery(delivery: Delivery, deadline: float) -> None:
    """Waits until everything is delivered, `deadline` (monotonic), or for `HOPELESS_S` while it is stuck."""
    progress = delivery.progress
    began = time.monotonic()
    delivery.wake(max(0.0, deadline - began))
    while progress.active and time.monotonic() < deadline:
        stuck = is_stuck(delivery)
        # A store that has been down until now may be back: it is asked once more, whatever came before.
        since_s = time.monotonic() - max(began, progress.moved_at)
        if stuck and since_s >= HOPELESS_S:
            return
        rest_s = deadline - time.monotonic()
        progress.wait(
            lambda was=stuck: not progress.active or is_stuck(delivery) != was,  # type: ignore[misc]
            max(0.0, min(rest_s, HOPELESS_S - since_s if stuck else rest_s)),
        )


def let_go(delivery: Delivery, entries: Iterable[SinkEntry]) -> None:
    """Lets go of delivery: a store that is down is left for later, one that takes records goes on taking them.

    Args:
        delivery: The run's.
        entries: Its destinations, whose states are read once more.
    """
    progress = delivery.progress
    if progress.active:
        delivery.hurry()
        progress.wait(lambda: not progress.active, STOP_S if is_stuck(delivery) else 0.0)
    for entry in entries:
        # What was kept may be newer than what was told.
        with contextlib.suppress(OSError, msgspec.DecodeError):
            progress.states[entry.key] = DestinationFile(delivery.bundle, entry).load()
