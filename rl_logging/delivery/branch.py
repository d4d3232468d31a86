"""Which of the journal's records are one remote run's: those of one branch of the run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import DestinationState
from rl_logging.bundle.rewinds import Rewind, rewinds
from rl_logging.records import Envelope
from rl_logging.sinks import SinkContext


class Branch:
    """One branch of a run, from the journal's first record to the last before the run went back.

    Args:
        bundle: The run.
        number: How often the stores had been given another remote run before it.

    Attributes:
        ended: Whether records of a later branch were met.
    """

    def __init__(self, bundle: Bundle, number: int) -> None:
        self._bundle = bundle
        self._number = number
        self._rewinds: Sequence[Rewind] = ()
        self.ended = False

    def take(self, envelopes: list[Envelope]) -> list[Envelope]:
        """Returns those that are this branch's.

        Where the run went back is noted before the first record of the next branch is written, so that whoever looks
        after reading that record sees it.
        """
        if not envelopes:
            return envelopes
        self._rewinds = found = rewinds(self._bundle)
        later = [index for index, rewind in enumerate(found) if rewind.branches][self._number :]
        if later:
            self._rewinds = found[: later[0]]
            last = found[later[0]].before_seq
            self.ended = envelopes[-1].seq > last
            return [envelope for envelope in envelopes if envelope.seq <= last]
        return envelopes

    def leaves_out(self, envelope: Envelope) -> bool:
        """Whether the run went back behind this record, of those that `take` returned last."""
        return any(rewind.supersedes(envelope) for rewind in self._rewinds)


def of_branch(context: SinkContext, state: DestinationState) -> SinkContext:
    """Returns the context of a branch's sink: another run, for the store, where an earlier branch has one there."""
    if state.earlier is None:
        return context
    number = state.branch + 1
    return msgspec.structs.replace(
        context,
        # Two dashes: a user may have called another run `<id>-2`, into which this must not go.
        run_id=f"{context.run_id}--{number}",
        name=f"{context.name}-{number}",
        supersedes=dict(state.earlier),
    )
