"""What stands in for the sink where W&B is switched off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rl_logging.records import Record, RunStatus


class DisabledSink:
    """Takes no kind of record and owes nothing."""

    accepts: frozenset[type[Record]] = frozenset()

    def open(self, state: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Returns `state` as it was: there is no run."""
        return dict(state or {})

    def write(self, batch: Sequence[Record], /) -> None:
        """Is never given anything, since nothing is accepted."""

    def confirmed(self) -> int:
        """Returns 0: nothing was ever handed over."""
        return 0

    def close(self, status: RunStatus | None, /) -> None:
        """Does nothing."""
