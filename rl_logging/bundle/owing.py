"""What runs still owe their destinations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from rl_logging import bundle as bundles
from rl_logging.bundle import Bundle, BundleError, SinkEntry
from rl_logging.bundle.destination import DestinationFile, DestinationState, destinations
from rl_logging.bundle.unmade import UNMADE, find_unmade
from rl_logging.journal import JournalError, last_seq


class Owing(msgspec.Struct, frozen=True, kw_only=True):
    """What a run owes one destination.

    Attributes:
        entry: The destination.
        state: What it has.
        accepted: Records in the journal.
        over: Whether the run is over.
    """

    entry: SinkEntry
    state: DestinationState
    accepted: int
    over: bool

    @property
    def records(self) -> int:
        """How many records it has not been given; none are owed to one that the user has given up."""
        return 0 if self.state.forgotten else self.withheld

    @property
    def anything(self) -> bool:
        """Whether records, or the run's end, are still owed."""
        return self.records > 0 or (self.over and self.state.closed is None and not self.state.forgotten)

    def deliverable(self, *, watched: bool) -> bool:
        """Whether there is something to deliver, by another process than the training's; or may be, where `watched`."""
        return not self.entry.live and not self.state.forgotten and (self.anything or watched)

    @property
    def withheld(self) -> int:
        """How many records it has not been given, whether or not they are owed."""
        return max(0, self.accepted - self.state.confirmed)


def find_bundles(paths: Sequence[Path]) -> tuple[list[Bundle], dict[Path, BundleError]]:
    """Returns the run directories that `paths` name, or hold; and those in folders that cannot be read, and why.

    Raises:
        BundleError: A path is none, and holds none; or it names one that cannot be read.
    """
    found: list[Bundle] = []
    unread: dict[Path, BundleError] = {}
    for path in paths:
        inside = list(bundles.find(path))
        if not inside:
            begun = path in find_unmade(path)
            raise BundleError(f"{path} {UNMADE if begun else 'is not a run directory, and holds none'}")
        for directory in inside:
            try:
                found.append(Bundle(directory))
            except BundleError as error:
                if directory == path:
                    raise
                unread[directory] = error
    return found, unread


def owing(bundle: Bundle, to: Sequence[str] = ()) -> list[Owing]:
    """Returns what `bundle` owes each of its destinations (those of the sinks `to`, where any are named).

    Raises:
        BundleError: The run has no such sink, or its journal needs a newer version.
    """
    entries = destinations(bundle)
    names = [entry.name for entry in entries]
    for name in to:
        if name not in names:
            raise BundleError(f"{bundle.path} has no sink '{name}': it has {', '.join(dict.fromkeys(names)) or 'none'}")
    over = bundle.abandoned()
    writer = bundle.writer()
    try:
        told = writer.last_seq if writer is not None and writer.released else None
        accepted = last_seq(bundle.journal) if told is None else told
    except JournalError as error:
        raise BundleError(str(error)) from error
    return [
        Owing(entry=entry, state=DestinationFile(bundle, entry).load(), accepted=accepted, over=over)
        for entry in entries
        if not to or entry.name in to
    ]


def unfinished(folder: Path, *, most: int, but: Path) -> list[Path]:
    """Returns the run directories in `folder` that are over and owe something that nobody is delivering, newest first.

    Args:
        folder: Where run directories are.
        most: How many of the newest to look at.
        but: One to pass over.
    """
    found = []
    for path in sorted(bundles.find(folder), key=lambda it: it.stat().st_mtime, reverse=True)[:most]:
        if path == but:
            continue
        try:
            bundle = Bundle(path)
            debts = [debt for debt in owing(bundle) if debt.over and debt.anything and not debt.entry.live]
            if any(not DestinationFile(bundle, debt.entry).being_delivered() for debt in debts):
                found.append(path)
        except (BundleError, OSError):
            continue  # damaged, or a newer version's: `rl-logging status` says which; or another user's
    return found
