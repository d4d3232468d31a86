"""Which run directory a program goes on with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from rl_logging import bundle as bundles
from rl_logging.bundle import Bundle, BundleError
from rl_logging.journal import JournalReader, read_header, segments
from rl_logging.records import Model, decode
from rl_logging.settings.sections import SettingsError

_SLURM: Final = ("SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID")


def default_id(environ: Mapping[str, str]) -> str | None:
    """Returns the id that a scheduler gives a job and, after a preemption, gives it again; None where there is none."""
    job = next((environ[variable] for variable in _SLURM if environ.get(variable)), None)
    if job is None:
        return None
    task = environ.get("SLURM_ARRAY_TASK_ID")
    return f"slurm-{job}-{task}" if task else f"slurm-{job}"


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


def last_step(journal: Path) -> int:
    """Returns the highest step in the newest of a journal's segments that has any; -1 for none."""
    for path in reversed(segments(journal)):
        header = read_header(path)
        reader = JournalReader(journal, after=header[0].first_seq - 1 if header else 0)
        highest = -1
        while batch := reader.read(4096, final=True):
            highest = max(highest, *(envelope.step if envelope.step is not None else -1 for envelope in batch))
        if highest >= 0:
            return highest
    return -1


def saved_models(bundle: Bundle) -> list[Model]:
    """Returns the run's saved models whose files are there, oldest first; `seq` is 0 where there is no record.

    Raises:
        JournalError: The journal needs a newer version.
    """
    recorded = {record.path: record for record in _records(bundle)}
    kept = {model.path: model for model in _on_disk(bundle)}
    found = []
    for path, model in kept.items():
        record = recorded.get(path)
        # A folder's name may be taken again once a version was deleted: the older record is not of this one then.
        found.append(record if record is not None and record.time >= model.time - 1.0 else model)
    return sorted(found, key=lambda model: (model.time, model.seq))


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
    return next((run for run in _all(folder) if run.manifest.id == run_id), None)


def _all(folder: Path) -> list[Bundle]:
    found = []
    for path in bundles.find(folder):
        try:
            found.append(Bundle(path))
        except BundleError:
            continue  # damaged, or a newer version's: not one to go on with
    return found


def _created(run: Bundle) -> float:
    return run.manifest.created


def _open(path: Path) -> Bundle:
    try:
        return Bundle(path)
    except BundleError as error:
        raise SettingsError(f"resume: {error}") from error
