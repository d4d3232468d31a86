"""What one destination has of one run: remote ids, how far it has confirmed, and what it changed.

The file ``sinks/<key>.json`` is replaced as a whole whenever it changes, so that a reader in another process always
sees a consistent state.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from rl_logging.bundle import Bundle, BundleError, SinkEntry, write_atomically
from rl_logging.bundle.delivery_lock import DeliveryLock
from rl_logging.bundle.refused import add_refused, refused_seqs
from rl_logging.bundle.rewinds import branches
from rl_logging.kept import ForeignError, read_kept
from rl_logging.records import RunStatus

log = logging.getLogger("rl_logging")

Phase = Literal["waiting", "opening", "delivering", "backoff", "refused", "done"]
EXAMPLES: Final = 1000
SUPERSEDED: Final = "superseded"


class DestinationState(msgspec.Struct, kw_only=True):
    """The state of one (sink, destination).

    Attributes:
        sink: The sink's name.
        destination: Where it leads, for a person.
        remote: What the sink's `open` returned: ``id``, ``url`` and its own.
        confirmed: Every record up to this seq is in the store, or set aside, or of a kind the sink does not take.
        handed_over: The last seq that was handed to the sink.
        delivered: Records in the store.
        skipped: Records of kinds the sink does not take.
        rejected: Records the store refused; they are in ``<key>.rejected.jsonl``.
        superseded: Records left out, because the run went back behind their steps since.
        merged: Points that were equal to others.
        renamed: Names the store does not take, and what it has instead.
        truncated: What the store has only in part, and how.
        warnings: What else the sink told.
        damaged: Places in the journal that could not be read.
        phase: What the worker is doing.
        last_error: The last thing that went wrong; None once it is over.
        end: The status in the run's End record, where that is the last one read.
        closed: With which status the remote run was ended; None while it is not.
        unknown: The kind of record that needs a newer rl_logging; None where there is none.
        branch: Which branch of the run it has: how often the run had gone back (`rl_logging.bundle.rewinds`).
        earlier: `remote` of the branch before, which has what is superseded now; None where there is none, empty where
            it is lost.
        lacking: Records that were deleted from the journal before delivery there began (anew): it gets none of them.
        forgotten: Whether the user has given it up: nothing is owed to it any more. ``<key>.forgotten`` says so.
    """

    sink: str
    destination: str
    remote: dict[str, Any] | None = None
    confirmed: int = 0
    handed_over: int = 0
    delivered: int = 0
    skipped: int = 0
    rejected: int = 0
    superseded: int = 0
    merged: int = 0
    renamed: dict[str, str] = {}
    truncated: dict[str, str] = {}
    warnings: list[str] = []
    damaged: list[str] = []
    phase: Phase = "waiting"
    last_error: str | None = None
    end: RunStatus | None = None
    closed: RunStatus | None = None
    unknown: str | None = None
    branch: int = 0
    earlier: dict[str, Any] | None = None
    lacking: int = 0
    forgotten: bool = False

    @property
    def url(self) -> str | None:
        """Where a person looks at the remote run."""
        url = (self.remote or {}).get("url")
        return url if isinstance(url, str) else None

    @property
    def remote_id(self) -> str | None:
        """The remote run's id."""
        remote_id = (self.remote or {}).get("id")
        return None if remote_id is None else str(remote_id)


class DestinationFile:
    """The files of one (sink, destination) in a bundle."""

    def __init__(self, bundle: Bundle, entry: SinkEntry) -> None:
        self.path = bundle.sinks / f"{entry.key}.json"
        self.rejected_path = bundle.sinks / f"{entry.key}.rejected.jsonl"
        self._damaged_path = bundle.sinks / f"{entry.key}.damaged"
        self._forgotten_path = bundle.sinks / f"{entry.key}.forgotten"
        self._lock_path = bundle.sinks / f"{entry.key}.lock"
        self._bundle = bundle
        self._entry = entry

    def load(self) -> DestinationState:
        """Returns the kept state; a new one where there is none, and where the run has gone back since.

        Raises:
            BundleError: Where the run went back cannot be read.
        """
        kept, branch = self._kept(), len(branches(self._bundle))
        if kept is not None and kept.branch >= branch:
            return kept
        fresh = DestinationState(sink=self._entry.name, destination=self._entry.destination, branch=branch)
        fresh.forgotten = self.is_forgotten()
        if kept is not None:
            fresh.earlier = kept.earlier if kept.remote is None else kept.remote
        elif branch:  # lost, or damaged: this branch's remote run is none of the earlier ones'
            fresh.earlier = self._last_known_remote()
        return fresh

    def load_any(self) -> DestinationState:
        """Returns the kept state, of whatever branch it is; as `load` where there is none."""
        return self._kept() or self.load()

    def begin_branch(self) -> None:
        """Puts aside what an earlier branch of the run has, where there is a new one; under the destination's lock.

        It may be interrupted anywhere and is done again then.
        """
        kept, fresh = self._kept(), self.load()
        if kept is None or kept.branch >= fresh.branch:
            return
        if kept.remote is not None:
            write_atomically(self._aside(kept.branch, ".json"), msgspec.json.encode(kept))
        if self.rejected_path.exists():
            self._aside(kept.branch, ".json").parent.mkdir(exist_ok=True)
            self.rejected_path.replace(self._aside(kept.branch, ".rejected.jsonl"))
        self.save(fresh)

    def earlier(self) -> list[DestinationState]:
        """Returns the states of the branches before, oldest first."""
        found = []
        for path in self._all_aside():
            with contextlib.suppress(OSError, msgspec.DecodeError, RecursionError):
                found.append(msgspec.json.decode(read_kept(path), type=DestinationState))
        return sorted(found, key=lambda state: state.branch)

    def save_earlier(self, state: DestinationState) -> None:
        """Keeps the state of a branch before."""
        write_atomically(self._aside(state.branch, ".json"), msgspec.json.encode(state))

    def _last_known_remote(self) -> dict[str, Any] | None:
        """Returns `remote` of the last branch that had any; empty where it had one of which nothing can be read."""
        known = next((state.remote for state in reversed(self.earlier()) if state.remote is not None), None)
        if known is None and (self._damaged_path.exists() or any(self._all_aside())):
            return {}
        return known

    def _all_aside(self) -> Iterator[Path]:
        return self._aside(0, ".json").parent.glob(f"{self._entry.key}-*.json")

    def _aside(self, branch: int, suffix: str) -> Path:
        return self._bundle.sinks / SUPERSEDED / f"{self._entry.key}-{branch + 1}{suffix}"

    def _kept(self) -> DestinationState | None:
        try:
            state = msgspec.json.decode(read_kept(self.path), type=DestinationState)
            state.forgotten = self.is_forgotten()
            return state
        except FileNotFoundError:
            pass
        except (ForeignError, msgspec.DecodeError, RecursionError) as error:
            # Delivering again is harmless: sinks write what is there already only once.
            log.warning("%s is damaged (%s): put aside, delivery starts anew", self.path, error)
            with contextlib.suppress(OSError):
                self.path.replace(self._damaged_path)
        return None

    def save(self, state: DestinationState) -> None:
        """Keeps `state`."""
        write_atomically(self.path, msgspec.json.encode(state))

    def set_aside(self, row: dict[str, Any]) -> None:
        """Adds a refused record to ``<key>.rejected.jsonl``."""
        add_refused(self.rejected_path, row)

    def seqs_set_aside(self) -> set[int]:
        """Returns the seqs of the records in ``<key>.rejected.jsonl``."""
        return refused_seqs(self.rejected_path)

    def forget(self) -> None:
        """Gives the destination up: nothing is owed to it any more. Whoever delivers there sees it soon, and stops.

        Raises:
            OSError: It cannot be noted.
        """
        write_atomically(self._forgotten_path, b"")

    def take_up(self) -> None:
        """Has the destination get what it is owed again."""
        self._forgotten_path.unlink(missing_ok=True)

    def is_forgotten(self) -> bool:
        """Whether the user has given it up."""
        return self._forgotten_path.exists()

    def being_delivered(self) -> bool:
        """Whether some process is delivering there now.

        Raises:
            NoLockError: None can, from here.
        """
        lock = self.lock()
        if not lock.acquire():
            return True
        lock.release()
        return False

    def lock(self) -> DeliveryLock:
        """Returns the lock that only one delivery to this destination may hold, not yet acquired."""
        return DeliveryLock(self._lock_path)


ADDED: Final = "added.json"


def destinations(bundle: Bundle) -> tuple[SinkEntry, ...]:
    """Returns where the run goes: what it was configured for, and what was added to it later.

    Raises:
        BundleError: What was added is damaged.
    """
    return (*bundle.manifest.sinks, *_added(bundle))


def add_destination(bundle: Bundle, entry: SinkEntry) -> None:
    """Has the run go to `entry` too, from now on; nothing happens where it does already.

    Raises:
        OSError: The run directory cannot be written; a `NoLockError` where it cannot even be locked.
        BundleError: What was added before is damaged.
    """
    with DeliveryLock(bundle.sinks / f".{ADDED}.lock").wait():
        if entry.key not in {known.key for known in destinations(bundle)}:
            write_atomically(bundle.sinks / ADDED, msgspec.json.encode((*_added(bundle), entry)))


def _added(bundle: Bundle) -> tuple[SinkEntry, ...]:
    file = bundle.sinks / ADDED
    try:
        added = msgspec.json.decode(read_kept(file), type=tuple[SinkEntry, ...])
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise BundleError(f"{file} is damaged: {error}") from error
    for entry in added:
        entry.check(file)
    return added


def destination_key(sink: str, destination: str) -> str:
    """Returns the file-name part that stands for (sink, destination): readable, and told apart by a hash."""
    digest = hashlib.sha256(f"{sink}\n{destination}".encode()).hexdigest()[:10]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", sink).strip("-")[:40] or "sink"
    return f"{readable}-{digest}"


def states(bundle: Bundle) -> dict[str, tuple[SinkEntry, DestinationState, Path]]:
    """Returns the kept state of every configured destination by its key."""
    return {
        entry.key: (entry, DestinationFile(bundle, entry).load(), DestinationFile(bundle, entry).path)
        for entry in destinations(bundle)
    }


def most_confirmed(bundle: Bundle) -> int:
    """Returns the highest seq that any store has confirmed, of whatever branch of the run."""
    files = [DestinationFile(bundle, entry) for entry in destinations(bundle)]
    return max((state.confirmed for file in files for state in (*file.earlier(), file.load_any())), default=0)
