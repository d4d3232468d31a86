"""Delivering later what a run directory still owes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rl_logging.bundle import Bundle
from rl_logging.delivery import BundleDelivery
from rl_logging.destination import DestinationState
from rl_logging.owing import Owing, owing

PATIENCE_S = 30.0


def deliver(
    bundle: Bundle,
    debts: Sequence[Owing],
    tell: Callable[[str, DestinationState], None],
    warn: Callable[[str, str], None],
) -> list[Owing]:
    """Delivers what is owed, until it is done or nothing has moved for `PATIENCE_S` seconds.

    Args:
        bundle: The run.
        debts: What `owing` returned.
        tell: Called with a destination's key and state whenever it changed.
        warn: Called with a destination's key and what the user must see.

    Returns:
        What is owed now.
    """
    entries = [debt.entry for debt in debts if debt.anything and not debt.entry.live]
    delivery = BundleDelivery(
        bundle,
        live=False,
        ends=bundle.abandoned(),
        tell=tell,
        warn=warn,
        entries=entries,
        patience_s=PATIENCE_S,
    )
    delivery.start()
    try:
        delivery.join()
    except KeyboardInterrupt:
        delivery.stop()
        delivery.join(PATIENCE_S)
        raise
    return owing(bundle, [debt.entry.name for debt in debts])
