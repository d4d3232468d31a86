"""Which run directory a program goes on with."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from rl_logging import bundle as bundles
from rl_logging.bundle import Bundle, BundleError, superseded
from rl_logging.bundle.directory import TRIM_LOCK
from rl_logging.bundle.rewinds import Rewind, add_rewind, highest_deleted
from rl_logging.journal import JournalReader, read_header, read_trimmed, segments
from rl_logging.locks import Lock
from rl_logging.records import Envelope, Model, decode
from rl_logging.settings.sections import SettingsError


def find(resume: bool | str, run_id: str | None, name: str | None, folder: Path) -> Bundle | None:
    """Returns the run to go on with; None for a new one.

    Args:
        resume: The setting: False, ``auto`` (a run of that id, where there is one), True (a run that must be there:
            of that id, else of that name, else the newest), a run directory, or an id.
        run_id: The run's id, or None.
        name: The run's name, or None.
        folder: Where run directories are.

    Raises:
        SettingsError: There is no such run.
    """
    if resume is False:
        return None
    if isinstance(resume, str) and resume != "auto":
        if (Path(resume).expanduser() / bundles.MANIFEST).is_file():
            return _open(Path(resume).expanduser())
        found = _by_id(folder, resume)
        if found is None:
            raise SettingsError(f"resume: {resume!r} is neither a run directory nor the id of a run in {folder}")
        return found
    if run_id is not None:
        found = _by_id(folder, run_id)
        if found is None and resume is True:
            raise SettingsError(f"resume: there is no run of the id {run_id!r} in {folder}; 'auto' begins one then")
        return found
    if resume == "auto":
        raise SettingsError("resume: auto finds a run by its id: set rl_logging.id, or RL_LOGGING_ID")
    newest = max((run for run in _all(folder) if name in (None, run.manifest.name)), key=_created, default=None)
    if newest is None:
        raise SettingsError(f"resume: there is no run{f' called {name!r}' if name else ''} in {folder}")
    return newest


def last_step(bundle: Bundle) -> int:
    """Returns the highest step in the newest of the journal's segments that has any which counts; -1 for none.

    Raises:
        BundleError: Where the run went back cannot be read.
        JournalError: The journal needs a newer version.
    """
    is_superseded = superseded(bundle)
    for part in _newest_first(bundle):
        counts = (envelope.step for envelope in part if envelope.step is not None and not is_superseded(envelope))
        highest = max(counts, default=-1)
        if highest >= 0:
            return highest
    return highest_deleted(bundle, read_trimmed(bundle.journal))


def go_back(bundle: Bundle, to: int | Literal["checkpoint"], last_seq: int) -> Rewind | None:
    """Has a run go back to a step; only whoever has claimed it may, before it writes anything.

    Args:
        bundle: The run.
        to: The step, or ``checkpoint`` for that of the model that was saved last: the very beginning where there is
            none.
        last_seq: The run's last record.

    Returns:
        What was noted; None where nothing was logged beyond that step.

    Raises:
        BundleError: Where it went back before cannot be read.
        JournalError: The journal needs a newer version.
        OSError: It cannot be noted.
    """
    if to == "checkpoint":
        models = saved_models(bundle)
        step = -1 if not models else models[-1].step or 0
    else:
        step = to
    # An earlier part's delivery may still be at it: what a new remote run begins with is not deleted meanwhile.
    with Lock(bundle.path / TRIM_LOCK).wait():
        return _go_back(bundle, step, last_seq)


def _go_back(bundle: Bundle, step: int, last_seq: int) -> Rewind | None:
    rewind = Rewind(before_seq=last_seq, step=step, time=time.time())
    is_superseded = superseded(bundle)
    parts = _newest_first(bundle)
    beyond = (rewind.supersedes(envelope) and not is_superseded(envelope) for part in parts for envelope in part)
    trimmed = read_trimmed(bundle.journal)
    if not any(beyond) and highest_deleted(bundle, trimmed) <= step:
        if not any(map(rewind.supersedes, saved_models(bundle))):
            return None
        rewind = msgspec.structs.replace(rewind, branches=False)  # no store has anything of it
    elif trimmed is not None:
        rewind = msgspec.structs.replace(rewind, branches=False)  # what a new remote run would begin with is gone
    add_rewind(bundle, rewind)
    return rewind


def saved_models(bundle: Bundle, *, all_branches: bool = False) -> list[Model]:
    """Returns the run's saved models whose files are there, oldest first; `seq` is 0 where there is no record.

    Args:
        bundle: The run.
        all_branches: Also those that the run went back behind; before the others, however old.

    Raises:
        BundleError: Where the run went back cannot be read.
        JournalError: The journal needs a newer version.
    """
    is_superseded = superseded(bundle)
    recorded = {record.path: record for record in _records(bundle)}
    kept = {model.path: model for model in _on_disk(bundle)}
    found = []
    for path, model in kept.items():
        record = recorded.get(path)
        # A folder's name may be taken again once a version was deleted: the older record is not of this one then.
        found.append(record if record is not None and record.time >= model.time - 1.0 else model)
    counted = [model for model in found if all_branches or not is_superseded(model)]
    return sorted(counted, key=lambda model: (not is_superseded(model), model.time, model.seq))


def _newest_first(bundle: Bundle) -> Iterator[Iterator[Envelope]]:
    """Yields the records from the start of the newest segment on, then from that of the one before, and so on."""
    for path in reversed(segments(bundle.journal)):
        header = read_header(path)
        yield _envelopes(JournalReader(bundle.journal, after=header[0].first_seq - 1 if header else 0), path)


def _envelopes(reader: JournalReader, segment: Path) -> Iterator[Envelope]:
    while batch := reader.read(4096, final=True):
        yield from batch
        if reader.segment is not None and reader.segment > segment.name:
            return


def _records(bundle: Bundle) -> Iterator[Model]:
    reader = JournalReader(bundle.journal)
    while batch := reader.read(4096, final=True):
        for envelope in batch:
            if envelope.kind == Model.kind:
                try:
                    record = decode(envelope)
                except (msgspec.DecodeError, TypeError):
                    continue  # damaged: delivery tells of it
                if isinstance(record, Model):
                    yield record


def _on_disk(bundle: Bundle) -> Iterator[Model]:
    """Yields what the folders below ``models`` say of themselves: not every saved model has a record."""
    for file in sorted(bundle.path.glob("models/*/step_*/metadata.json")):
        path = file.parent.relative_to(bundle.path).as_posix()
        try:
            told = msgspec.json.decode(bundle.resolve(f"{path}/metadata.json").read_bytes(), type=_Told)
        except (OSError, BundleError, msgspec.DecodeError, RecursionError):
            continue  # the user's own file of that name, or one that is half gone
        yield Model(seq=0, time=told.time, step=told.step, name=told.name, path=path, metadata=told.metadata)


class _Told(msgspec.Struct):
    name: str
    time: float
    step: int | None = None
    metadata: dict[str, Any] = {}


def _by_id(folder: Path, run_id: str) -> Bundle | None:
    # A sweep has thousands of runs in one folder: those are looked at first whose names say so.
    named = (path for path in bundles.find(folder) if path.name.endswith(f"-{run_id}"))
    found = (run for paths in (named, bundles.find(folder)) for run in _read(paths))
    return next((run for run in found if run.manifest.id == run_id), None)


def _all(folder: Path) -> list[Bundle]:
    return list(_read(bundles.find(folder)))


def _read(paths: Iterable[Path]) -> Iterator[Bundle]:
    for path in paths:
        try:
            yield Bundle(path)
        except BundleError:
            continue  # damaged, or a newer version's: not one to go on with


def _created(run: Bundle) -> float:
    return run.manifest.created


def _open(path: Path) -> Bundle:
    try:
        return Bundle(path)
    except BundleError as error:
        raise SettingsError(f"resume: {error}") from error
