"""Where a run went back to a checkpoint: what it had logged beyond is superseded by what it logs again.

The journal is never rewritten. ``rewinds.json`` says which of its records are superseded; readers leave them out, and a
store that had any of them gets a remote run of its own for what counts now: another branch of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from rl_logging.bundle.directory import Bundle
from rl_logging.bundle.manifest import BundleError
from rl_logging.bundle.replacing import write_atomically
from rl_logging.journal.trimmed import Trimmed
from rl_logging.kept import read_kept
from rl_logging.records import Envelope, Record

REWINDS: Final = "rewinds.json"


class Rewind(msgspec.Struct, kw_only=True, frozen=True):
    """One time that a run went back.

    Attributes:
        before_seq: The last record before that.
        step: Where to: what was logged before at a higher step is superseded. -1: to the very beginning.
        time: When, in wall-clock seconds since the epoch.
        branches: Whether the stores get another remote run. Not where the journal was trimmed, from which that would
            have to be delivered.
    """

    before_seq: int
    step: int
    time: float
    branches: bool = True

    def supersedes(self, record: Envelope | Record) -> bool:
        """Whether it supersedes a record; of a saved model without one, whose seq is 0, its time decides."""
        before = record.seq <= self.before_seq if record.seq else record.time < self.time
        return before and record.step is not None and record.step > self.step


Superseded = Callable[[Envelope | Record], bool]


def rewinds(bundle: Bundle) -> tuple[Rewind, ...]:
    """Returns where the run went back, in the order in which it did.

    Raises:
        BundleError: The file is damaged.
    """
    file = bundle.path / REWINDS
    try:
        return msgspec.json.decode(read_kept(file), type=tuple[Rewind, ...])
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise BundleError(f"{file} is damaged: {error}") from error


def add_rewind(bundle: Bundle, rewind: Rewind) -> None:
    """Notes that the run goes back; only whoever has claimed it may, before it writes anything.

    Raises:
        BundleError: The file is damaged.
        OSError: It cannot be written.
    """
    write_atomically(bundle.path / REWINDS, msgspec.json.encode((*rewinds(bundle), rewind)))


def superseded(bundle: Bundle) -> Superseded:
    """Returns a function that says of a record, or its envelope, whether the run went back behind its step later.

    Raises:
        BundleError: The file that says so is damaged.
    """
    found = rewinds(bundle)
    return lambda record: any(rewind.supersedes(record) for rewind in found)


def branches(bundle: Bundle) -> tuple[Rewind, ...]:
    """Returns the rewinds from each of which on the stores have another remote run.

    Raises:
        BundleError: The file that says so is damaged.
    """
    return tuple(rewind for rewind in rewinds(bundle) if rewind.branches)


def highest_deleted(bundle: Bundle, trimmed: Trimmed | None) -> int:
    """Returns the highest step that counts among what was deleted of the journal; -1 for none.

    Raises:
        BundleError: The file that says where the run went back is damaged.
    """
    if trimmed is None:
        return -1
    return min([trimmed.step, *(rewind.step for rewind in rewinds(bundle) if rewind.before_seq >= trimmed.seq)])
