"""A sink whose store takes whole batches and refuses single records of them later, as one that uploads does."""

from __future__ import annotations

from collections.abc import Sequence

from rl_logging.records import Record
from rl_logging.sinks import RejectedError
from rl_logging.testing import MemorySink


class LateSink(MemorySink):
    """Tells from `confirmed`, one record at a time, what `MemoryStore.reject` made the store refuse."""

    def write(self, batch: Sequence[Record], /) -> None:
        """See `rl_logging.sinks.Sink.write`."""
        try:
            super().write(batch)
        except RejectedError as error:
            self.late = [*getattr(self, "late", []), *error.records]

    def confirmed(self) -> int:
        """See `rl_logging.sinks.Sink.confirmed`."""
        if getattr(self, "late", []):
            raise RejectedError("quota exceeded", [self.late.pop(0)])
        return super().confirmed()
