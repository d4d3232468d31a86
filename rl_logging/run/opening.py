"""Opening a run for writing: its directory made, or found again, and its journal begun or gone on with."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import rl_logging
from rl_logging.bundle import Bundle, BundleError, Claim, Manifest, SinkEntry, resuming
from rl_logging.bundle.destination import add_destination, destinations, most_confirmed
from rl_logging.bundle.entries import EntryError, live_entry, make_entry
from rl_logging.bundle.ids import beginning
from rl_logging.bundle.parents import Parent, find_parent, relative
from rl_logging.bundle.trimming import SEGMENT_BYTES, trims
from rl_logging.hookspecs import Surroundings
from rl_logging.journal import JournalError, JournalWriter, last_seq, read_trimmed
from rl_logging.media import slug
from rl_logging.run import identity
from rl_logging.run.interface import WarnOnce
from rl_logging.settings import Loaded, Settings, as_dict
from rl_logging.settings.jobs import default_id
from rl_logging.settings.sections import SettingsError


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedRun:
    """A run that this process may write.

    Attributes:
        bundle: Its directory.
        claim: The right to write it.
        journal: Its journal.
        resumed: Whether it was there already.
        first_step: The step it goes on from; -1 for the very beginning.
        destinations: Where it is delivered to from here, by the sink's name.
        environ: The credentials, as environment variables for whoever delivers.
        objects: The sinks that are objects of this process, by destination key.
    """

    bundle: Bundle
    claim: Claim
    journal: JournalWriter
    resumed: bool
    first_step: int
    destinations: dict[str, SinkEntry]
    environ: dict[str, str]
    objects: dict[str, object]


def open_run(loaded: Loaded, warn_once: WarnOnce) -> OpenedRun:
    """Opens the run that the settings ask for.

    Args:
        loaded: The settings.
        warn_once: Told what comes out otherwise than it was asked for.

    Raises:
        SettingsError: The directory cannot be made, or gone on with; the id is taken; a sink cannot be had, or its
            options are wrong.
    """
    settings = loaded.settings
    folder = Path(settings.dir).expanduser().absolute()
    given_id = settings.id or (default_id(os.environ) if settings.resume == "auto" else None)
    earlier = resuming.find(settings.resume, given_id, settings.name, folder)
    manifest, environ, objects = _manifest(loaded, folder, given_id, earlier)
    path = folder / f"{slug(manifest.name)}-{manifest.id}"
    try:
        bundle, claim = _claimed(earlier) if earlier else _made(path, manifest, id_is_new=given_id is None)
        try:
            return OpenedRun(
                bundle=bundle,
                claim=claim,
                resumed=earlier is not None,
                first_step=_go_on(bundle, claim, manifest.sinks, settings, warn_once) if earlier else -1,
                journal=JournalWriter(
                    bundle.journal,
                    manifest.id,
                    floor=claim.info.first_seq - 1,
                    sync=settings.delivery == "offline",
                    **({"segment_bytes": SEGMENT_BYTES} if trims(bundle) else {}),
                ),
                # Others may add destinations while it runs; these are delivered from here.
                destinations=_by_name(destinations(bundle), manifest.sinks),
                environ=environ,
                objects=objects,
            )
        except BaseException:
            claim.abandon()
            raise
    except (OSError, BundleError, JournalError) as error:
        if earlier:
            raise SettingsError(f"rl_logging.resume: {earlier.path} cannot be gone on with: {error}") from error
        raise SettingsError(f"rl_logging.dir: {path} cannot be made: {error}") from error


def _manifest(
    loaded: Loaded, folder: Path, given_id: str | None, earlier: Bundle | None
) -> tuple[Manifest, dict[str, str], dict[str, object]]:
    """Returns what the run is, of one that is gone on with its id and name, and the credentials and objects."""
    settings = loaded.settings
    try:
        cwd = Path.cwd()
    except OSError as error:
        raise SettingsError(f"the working directory is gone: {error}") from error
    created = time.time()
    program = identity.this_program(cwd)
    run_id = earlier.manifest.id if earlier else given_id or identity.new_id()
    name = earlier.manifest.name if earlier else settings.name or identity.new_name(program, created)
    parent = _parent(settings.parent, folder, run_id)
    project = settings.project or (parent.project if parent else None)
    parent_id = parent.id if parent else None
    surroundings = Surroundings(
        project=project, cwd=cwd, environ=os.environ, run_name=name, run_id=run_id, parent_id=parent_id
    )
    entries, environ, objects = _entries(loaded, surroundings)
    manifest = Manifest(
        version=rl_logging.__version__,
        id=run_id,
        name=name,
        created=created,
        program=program,
        host=socket.gethostname(),
        settings=as_dict(settings),
        project=project,
        group=settings.group or (parent.group if parent else None),
        tags=settings.tags,
        notes=settings.notes,
        sinks=entries,
        parent=parent_id,
        parent_dir=relative(parent.path, folder / f"{slug(name)}-{run_id}") if parent else None,
    )
    return manifest, environ, objects


def _parent(given: str | None, folder: Path, run_id: str) -> Parent | None:
    parent = find_parent(given, folder) if given else None
    if parent is not None and parent.id == run_id:
        raise SettingsError(f"rl_logging.parent: {given!r} is the run itself")
    return parent


def _made(path: Path, manifest: Manifest, *, id_is_new: bool) -> tuple[Bundle, Claim]:
    try:
        with contextlib.nullcontext() if id_is_new else beginning(manifest.id, path.parent):
            return Bundle.create(path, manifest)
    except (FileExistsError, BundleError) as error:
        if not path.is_dir():
            raise
        why = error if isinstance(error, BundleError) else f"{path} is there already"
        raise SettingsError(f"rl_logging.id: {manifest.id!r} is taken: {why}") from None


def _claimed(bundle: Bundle) -> tuple[Bundle, Claim]:
    return bundle, bundle.claim(lambda: _last_seq(bundle) + 1)


def _go_on(bundle: Bundle, claim: Claim, entries: Sequence[SinkEntry], settings: Settings, warn_once: WarnOnce) -> int:
    """Prepares a run that was there already; returns the step it goes on from, -1 for the very beginning."""
    for entry in entries:
        add_destination(bundle, entry)
    if settings.resume_step is not None:
        rewind = resuming.go_back(bundle, settings.resume_step, claim.info.first_seq - 1)
        if rewind is not None:
            if not rewind.branches and read_trimmed(bundle.journal) is not None:
                warn_once(
                    "resume_step",
                    f"resume_step: the run goes back to step {max(rewind.step, 0)}, and its stores keep the steps "
                    "logged beyond it too: rl_logging.keep has deleted what a new run there would begin with",
                )
            return rewind.step
    return resuming.last_step(bundle)


def _entries(
    loaded: Loaded, surroundings: Surroundings
) -> tuple[tuple[SinkEntry, ...], dict[str, str], dict[str, object]]:
    """Returns the run's destinations, the credentials for the delivery process, and the live objects by key."""
    entries: list[SinkEntry] = []
    environ: dict[str, str] = {}
    objects: dict[str, object] = {}
    wrong: list[str] = []
    for sink in loaded.sinks:
        if sink.given is not None:
            entry = live_entry(sink.name)
            objects[entry.key] = sink.given
        else:
            try:
                entry, credentials = make_entry(sink, surroundings)
            except EntryError as error:
                wrong += error.problems
                continue
            environ.update(credentials)
        entries.append(entry)
    if wrong:
        raise SettingsError("\n".join(wrong))
    return tuple(entries), environ, objects


def _last_seq(bundle: Bundle) -> int:
    """Returns the last seq of the journal, or that a store has confirmed: a crash of the machine may have cost some."""
    writer = bundle.writer()
    noted = 0 if writer is None else max(writer.first_seq - 1, writer.last_seq or 0)
    return max(last_seq(bundle.journal), most_confirmed(bundle), noted)


def _by_name(found: Sequence[SinkEntry], configured: Sequence[SinkEntry]) -> dict[str, SinkEntry]:
    """Returns destinations by the sink's name; an earlier one of the same name is called by its destination too."""
    keys = [entry.key for entry in configured]
    ordered = sorted(
        found, key=lambda entry: (entry.key not in keys, keys.index(entry.key) if entry.key in keys else 0)
    )
    named: dict[str, SinkEntry] = {}
    for entry in ordered:
        named[entry.name if entry.name not in named else f"{entry.name} ({entry.destination})"] = entry
    return named
