"""Whether a run is over, as its delivery sees it: another program may have gone on with it."""

from __future__ import annotations

from rl_logging.bundle import Bundle
from rl_logging.delivery.patience import Patience


class RunEnd:
    """What is known of the end of one run.

    Args:
        bundle: The run.
        patience: Knows whether the training process is gone.
        ends: Whether a run without an End record is over when its journal is; False where it may still be running.
    """

    def __init__(self, bundle: Bundle, patience: Patience, *, ends: bool) -> None:
        self._bundle = bundle
        self._patience = patience
        self.ends = ends
        writer = bundle.writer()
        self._generation = writer.generation if writer is not None else 0

    def is_at(self, seq: int) -> bool:
        """Whether an End record of this seq ends the run; not where a program has gone on with it since."""
        writer = self._bundle.writer()
        return writer is None or seq >= writer.first_seq

    def nobody_writes(self) -> bool:
        """Whether what is incomplete in the journal stays so."""
        return self._patience.over and self.ends and not self.goes_on()

    def goes_on(self) -> bool:
        """Whether another program has begun to go on with the run: its own delivery will close it."""
        writer = self._bundle.writer()
        return writer is not None and writer.generation > self._generation and not writer.released
