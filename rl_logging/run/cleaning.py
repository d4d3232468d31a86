"""Deleting run directories that nobody needs any more: only what every destination has confirmed."""

from __future__ import annotations

from pathlib import Path

from rl_logging.bundle import Bundle, BundleError
from rl_logging.bundle.claim import WRITER_LOCK
from rl_logging.bundle.deleting import delete, is_put_aside, put_aside
from rl_logging.bundle.destination import DestinationFile
from rl_logging.bundle.owing import Owing, owing
from rl_logging.bundle.trimming import refers
from rl_logging.bundle.unmade import BEING_MADE, is_being_made, remove_unmade
from rl_logging.locks import Lock


def why_kept(one: Bundle | Path, offline_too: bool = False) -> str | None:
    """Returns why a run directory must stay; None where all of it is elsewhere.

    Args:
        one: The run; or the path of a directory in which none was made, or whose deletion was cut short.
        offline_too: Whether what refers to offline files elsewhere may go, because they were synced.
    """
    if isinstance(one, Bundle):
        return _why_run_kept(one, offline_too)
    if is_put_aside(one):
        return None
    try:
        return BEING_MADE if is_being_made(one) else None
    except OSError as error:
        return f"it cannot be written: {error}"


def _why_run_kept(bundle: Bundle, offline_too: bool) -> str | None:
    try:
        debts = owing(bundle)
    except BundleError as error:
        return str(error)
    if not debts:
        return "it has no destination: it is the only copy"
    if not bundle.abandoned():
        return "it is still running"
    if all(debt.state.forgotten for debt in debts):
        return "every destination was given up: it is the only copy"
    for debt in debts:
        kept = None if debt.state.forgotten else _why_needed(debt, offline_too=offline_too)
        try:
            if kept is None and DestinationFile(bundle, debt.entry).being_delivered():
                kept = f"{debt.entry.name}: it is being delivered"
        except OSError as error:
            kept = f"it cannot be written: {error}"
        if kept is not None:
            return kept
    return None


def _why_needed(debt: Owing, *, offline_too: bool) -> str | None:
    """Returns why one destination still needs the run directory, or has not all that is in it."""
    name = debt.entry.name
    if debt.state.unknown is not None:
        return f"{name}: holds a record that needs a newer rl_logging ('{debt.state.unknown}')"
    if debt.anything:
        return f"{name}: {debt.records:,} records owed" if debt.records else f"{name}: the run's end is owed"
    if debt.state.rejected:
        return f"{name} refused {debt.state.rejected:,} records, whose only copy this is"
    if debt.state.damaged:
        return f"{name}: {len(debt.state.damaged)} places of the journal could not be read"
    if refers(debt.entry) and not offline_too:
        return f"{name}: its offline files may refer to it; --offline-too once they are synced"
    return None


def size_of(folder: Path) -> int:
    """Returns how many bytes the files in `folder` have."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def remove(one: Bundle | Path, offline_too: bool = False) -> str | None:
    """Deletes a run directory if it may go; returns why it stayed, None where it is gone. See `why_kept`.

    Raises:
        OSError: It cannot be deleted.
    """
    if isinstance(one, Bundle):
        return _remove_run(one, offline_too)
    if is_put_aside(one):
        delete(one)
        return None
    return remove_unmade(one)


def _remove_run(bundle: Bundle, offline_too: bool) -> str | None:
    lock = Lock(bundle.path / WRITER_LOCK)
    if not lock.acquire():
        return "it is still running"
    try:
        kept = _why_run_kept(bundle, offline_too)  # once more: nobody can go on with it now
        if kept is not None:
            return kept
        doomed = put_aside(bundle.path)
    finally:
        lock.release()
    delete(doomed)
    return None
