"""Deleting local copies of saved models: only those that no store needs any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from rl_logging.bundle import Bundle, SinkEntry, deleting, resuming
from rl_logging.bundle.destination import DestinationFile, DestinationState, destinations
from rl_logging.bundle.trimming import refers as refers
from rl_logging.run.saved_model import SavedModel

WarnOnce = Callable[[str, str], None]


class Saved(Protocol):
    """A model that was saved."""

    @property
    def path(self) -> Path:
        """Its folder."""
        ...


class LocalCopies:
    """The local copies of one model's versions, of which the last few are kept.

    A version that a store has not confirmed yet stays longer; it goes at a later call of `prune`.

    Args:
        discard: Deletes a version's folder if no store needs it, and returns whether it is gone.
        keep_last: How many stay; None: all.
        earlier: The versions that are there already, oldest first.
    """

    def __init__(self, discard: Callable[[Any], bool], keep_last: int | None, earlier: Iterable[Saved] = ()) -> None:
        self._discard = discard
        self._keep_last = keep_last
        self._kept = list(earlier)

    def add(self, saved: Saved | None) -> None:
        """Takes up a new version (None: it could not be saved), and deletes what is beyond the number."""
        if saved is not None:
            self._kept.append(saved)
            self.prune()

    def prune(self) -> None:
        """Deletes what is beyond the number, as far as no store needs it."""
        if self._keep_last is None:
            return
        surplus, last = self._kept[: -self._keep_last], self._kept[-self._keep_last :]
        self._kept = [saved for saved in surplus if not self._discard(saved)] + last


def earlier_versions(logger: Any, name: str) -> list[SavedModel]:
    """Returns the versions of a model that the earlier parts of a resumed run have left, oldest first. Never raises.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        name: The model's name.
    """
    if not logger.resumed:
        return []
    try:
        bundle = Bundle(logger.run_dir)
        return [
            SavedModel(name=name, path=bundle.resolve(model.path), step=model.step or 0, seq=model.seq or None)
            for model in resuming.saved_models(bundle, all_branches=True)
            if model.name == name
        ]
    except Exception as error:
        logger.warn_once(f"earlier models {name}", f"keep_last: the earlier versions of '{name}' stay: {error}")
        return []


def owed_to(states: Mapping[str, tuple[SinkEntry, DestinationState]], run_dir: Path, seq: int) -> SinkEntry | None:
    """Returns a destination that still needs the files of record `seq`; None where none does.

    Args:
        states: What each destination has, by the sink's name.
        run_dir: The run directory.
        seq: The record's.
    """
    bundle = Bundle(run_dir)
    known = {entry.key for entry, _ in states.values()}
    added = [entry for entry in destinations(bundle) if entry.key not in known]
    others = [(entry, DestinationFile(bundle, entry).load()) for entry in added]
    wanted = [(entry, state) for entry, state in [*states.values(), *others] if not state.forgotten]
    for entry, state in wanted:
        if state.confirmed < seq or refers(entry):
            return entry
        # One that was set aside has its only copy here.
        if state.rejected and seq in DestinationFile(bundle, entry).seqs_set_aside():
            return entry
    return None


def delete(folder: Path) -> None:
    """Deletes a saved model's folder; one that is not there any more is no error."""
    try:
        doomed = deleting.put_aside(folder)
    except FileNotFoundError:
        return
    deleting.delete(doomed)
