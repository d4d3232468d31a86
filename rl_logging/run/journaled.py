"""A run as the training process holds it: its directory, its journal, and whoever delivers it."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets as tokens
import socket
import string
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec

import rl_logging
from rl_logging.bundle import Bundle, BundleError, Manifest, SinkEntry, resuming
from rl_logging.bundle.destination import (
    DestinationFile,
    DestinationState,
    add_destination,
    destinations,
    most_confirmed,
)
from rl_logging.bundle.entries import EntryError, live_entry, make_entry
from rl_logging.bundle.owing import unfinished
from rl_logging.bundle.parents import find_parent, relative
from rl_logging.bundle.trimming import SEGMENT_BYTES, trim, trims
from rl_logging.hookspecs import Surroundings
from rl_logging.journal import JournalError, JournalWriter, last_seq, read_trimmed
from rl_logging.launch import Delivery
from rl_logging.media import slug
from rl_logging.records import End, Environment, Metrics, RunStatus, body_of
from rl_logging.run import environment
from rl_logging.run.arriving import ArrivingRecords
from rl_logging.run.device_copies import DeviceCopies, may_wait_beside_captures
from rl_logging.run.summary import sync_command
from rl_logging.secrets import mask_arguments
from rl_logging.settings import Loaded, as_dict
from rl_logging.settings.jobs import default_id
from rl_logging.settings.sections import SettingsError
from rl_logging.sinks import Program

log = logging.getLogger("rl_logging")

ID_ALPHABET: Final = string.digits + string.ascii_lowercase
HOPELESS_S: Final = 5.0
STOP_S: Final = 3.0
ENVIRONMENT_S: Final = 10.0
EARLIER_RUNS: Final = 20

WarnOnce = Callable[[str, str], None]
Stamp = Callable[[dict[str, float]], tuple[int, dict[str, float]]]


class Run(Protocol):
    """What the logger writes to."""

    @property
    def path(self) -> Path:
        """The run directory."""
        ...

    @property
    def accepted(self) -> int:
        """How many records were accepted."""
        ...

    @property
    def on_device(self) -> int:
        """How many records' values are still on a device; these are not accepted yet."""
        ...

    def append(self, kind: str, step: int | None, body: object, time_s: float | None = None) -> int | None:
        """Accepts a record and returns its seq; None where it was not accepted, which was told."""
        ...

    def hold(self, tensors: Sequence[Any], accept: Callable[[list[float], float], None]) -> None:
        """Has `accept` called, once the values of CUDA tensors are there, with them and the time of this call."""
        ...

    def settle(self, timeout_s: float) -> bool:
        """Waits until no record's values are on a device any more; returns whether it is so."""
        ...

    @property
    def room(self) -> Path | None:
        """The run directory, for what records point to; None where nothing is kept."""
        ...

    def states(self) -> dict[str, tuple[SinkEntry, DestinationState]]:
        """Returns what each destination has, by the sink's name."""
        ...

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Waits for `done()` while anybody delivers, looking whenever a destination's state changes."""
        ...

    def wake(self) -> None:
        """Has everything delivered at once."""
        ...

    def finish(self, status: RunStatus, timeout_s: float) -> None:
        """Ends the run."""
        ...

    def forget(self) -> None:
        """Lets go of everything in a forked child."""
        ...


class NullRun:
    """A run that keeps nothing: ``delivery: disabled``.

    Args:
        loaded: The settings.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.path = Path(loaded.settings.dir) / (loaded.settings.name or "disabled")
        self.accepted = 0

    @property
    def on_device(self) -> int:
        """There are none."""
        return 0

    def append(self, kind: str, step: int | None, body: object, time_s: float | None = None) -> int | None:
        """Accepts nothing."""
        return None

    def hold(self, tensors: Sequence[Any], accept: Callable[[list[float], float], None]) -> None:
        """Asks no device."""

    def settle(self, timeout_s: float) -> bool:
        """Nothing is held."""
        return True

    @property
    def room(self) -> Path | None:
        """There is none."""
        return None

    def states(self) -> dict[str, tuple[SinkEntry, DestinationState]]:
        """There are none."""
        return {}

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Nothing will change."""
        return done()

    def wake(self) -> None:
        """Nobody is there."""

    def finish(self, status: RunStatus, timeout_s: float) -> None:
        """Nothing was begun."""

    def forget(self) -> None:
        """Nothing is held."""


class JournaledRun:
    """A run with a directory of its own.

    Args:
        loaded: The settings.
        warn_once: Called with a key and a message for the user; shows each key once.
        stamp: Gives a sample of the machine its step, and says which of its figures are logged.

    Raises:
        SettingsError: The directory cannot be made, a sink cannot be had, or its options are wrong.
    """

    def __init__(self, loaded: Loaded, warn_once: WarnOnce, stamp: Stamp) -> None:
        settings = loaded.settings
        self._warn_once = warn_once
        self._stamp = stamp
        self._mode = settings.delivery
        try:
            cwd = Path.cwd()
        except OSError as error:
            raise SettingsError(f"the working directory is gone: {error}") from error
        program = _program(cwd)
        folder = Path(settings.dir).expanduser().absolute()
        given_id = settings.id or (default_id(os.environ) if settings.resume == "auto" else None)
        earlier = resuming.find(settings.resume, given_id, settings.name, folder)
        self.resumed = earlier is not None
        run_id = earlier.manifest.id if earlier else given_id or new_id()
        created = time.time()
        name = earlier.manifest.name if earlier else settings.name or _new_name(program, created)
        parent = find_parent(settings.parent, folder) if settings.parent else None
        if parent is not None and parent.id == run_id:
            raise SettingsError(f"rl_logging.parent: {settings.parent!r} is the run itself")
        project = settings.project or (parent.project if parent else None)
        surroundings = Surroundings(
            project=project,
            cwd=cwd,
            environ=os.environ,
            run_name=name,
            run_id=run_id,
            parent_id=parent.id if parent else None,
        )
        entries, environ, objects = _entries(loaded, surroundings)
        path = folder / f"{slug(name)}-{run_id}"
        taken = next(folder.glob(f"*-{run_id}"), None) if given_id and not earlier else None
        if taken is not None:
            raise SettingsError(
                f"rl_logging.id: {run_id!r} is taken: {taken} is there already; resume: auto goes on with it"
            )
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
            parent=parent.id if parent else None,
            parent_dir=relative(parent.path, path) if parent else None,
        )
        try:
            self.bundle = earlier or Bundle.create(path, manifest)
            self._claim = self.bundle.claim(lambda: _last_seq(self.bundle) + 1)
            try:
                self.first_step = self._go_on(entries, settings.resume_step) if earlier else -1
                floor = self._claim.info.first_seq - 1
                self._journal = JournalWriter(
                    self.bundle.journal,
                    run_id,
                    floor=floor,
                    sync=self._mode == "offline",
                    **({"segment_bytes": SEGMENT_BYTES} if trims(self.bundle) else {}),
                )
                self._claim.on_lost(self._disowned)
                # Others may add destinations while it runs; these are delivered from here.
                self._destinations = _by_name(destinations(self.bundle), entries)
            except BaseException:
                self._claim.abandon()
                raise
        except (OSError, BundleError, JournalError) as error:
            if earlier:
                raise SettingsError(f"rl_logging.resume: {earlier.path} cannot be gone on with: {error}") from error
            if isinstance(error, FileExistsError) and path.is_dir():
                raise SettingsError(f"rl_logging.id: {run_id!r} is taken: {path} is there already") from None
            raise SettingsError(f"rl_logging.dir: {path} cannot be made: {error}") from error
        self._arriving = ArrivingRecords(DeviceCopies().start, may_wait_beside_captures, warn_once)
        try:
            self._delivery = Delivery(
                self.bundle,
                self._mode,
                environ={**os.environ, **environ},
                objects=objects,
                warn=self._warn_of_sink,
                patience_s=settings.finish_timeout_s,
                system_metrics_s=settings.system_metrics_s,
                sampled=self._log_sample,
            )
        except BaseException:
            self._claim.abandon()
            raise
        self._capture = threading.Thread(target=self._look_around, name="rl_logging-environment", daemon=True)
        self._capture.start()

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.bundle.path

    @property
    def accepted(self) -> int:
        """How many records were accepted."""
        return self._journal.seq

    @property
    def goes_on(self) -> bool:
        """Whether a process of its own still delivers, and is not about to give up on stores that are down."""
        return self._delivery.goes_on and not self._stuck()

    @property
    def interrupted(self) -> bool:
        """Whether the caller, a signal handler, has interrupted this thread in the middle of an append."""
        return self._journal.interrupted

    @property
    def lost(self) -> int:
        """How many records the disk did not take, or a device did not give."""
        return self._journal.lost + self._arriving.lost

    @property
    def on_device(self) -> int:
        """See `Run.on_device`."""
        return len(self._arriving)

    def append(self, kind: str, step: int | None, body: object, time_s: float | None = None) -> int | None:
        """See `Run.append`."""
        try:
            return self._journal.append(kind, step, body, time_s)
        except JournalError as error:
            self._warn_once("journal", f"what is logged is not kept: {error}; training goes on")
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            self._warn_once(f"journal {kind}", f"a {kind} record was not kept: {error}")
        return None

    def hold(self, tensors: Sequence[Any], accept: Callable[[list[float], float], None]) -> None:
        """See `Run.hold`."""
        time_s = self._journal.now()
        self._arriving.hold(tensors, lambda figures: accept(figures, time_s))

    def settle(self, timeout_s: float) -> bool:
        """See `Run.settle`."""
        return self._arriving.settle(timeout_s)

    @property
    def room(self) -> Path | None:
        """See `Run.room`."""
        return self.path

    def states(self) -> dict[str, tuple[SinkEntry, DestinationState]]:
        """See `Run.states`."""
        known = self._delivery.progress.states
        return {name: (entry, known[entry.key]) for name, entry in self._destinations.items()}

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """See `Run.wait`."""
        progress = self._delivery.progress
        progress.wait(lambda: done() or not progress.active, timeout_s)
        return done()

    def wake(self) -> None:
        """See `Run.wake`."""
        self._delivery.wake()

    def finish(self, status: RunStatus, timeout_s: float) -> None:
        """See `Run.finish`: writes the End record, and waits while delivery gets anywhere.

        With every unfinished destination in backoff it waits 5 seconds only. What is then still owed stays in the
        run directory: a store that is down is left for later, and a process that gets on goes on by itself.
        """
        self._delivery.stop_sampling()
        if self._journal.interrupted:
            # A signal handler's call, in the middle of an append: the End record is written right after that one,
            # so nobody can wait for it here. Delivery sees it, or the process's end, by itself.
            self._arriving.close(0.0)
            self._seal(status)
            return
        deadline = time.monotonic() + timeout_s
        self._capture.join(min(ENVIRONMENT_S, timeout_s))
        self._arriving.close(max(0.0, deadline - time.monotonic()))
        self._seal(status)
        self._journal.close()
        try:
            if self._delivery.progress.active:
                self._wait_for_delivery(deadline)
        finally:
            self._end_delivery()
            self._claim.release(self._journal.seq)
            self._trim()

    def _go_on(self, entries: Sequence[SinkEntry], resume_step: int | Literal["checkpoint"] | None) -> int:
        """Prepares a run that was there already; returns the step it goes on from, -1 for the very beginning."""
        for entry in entries:
            add_destination(self.bundle, entry)
        if resume_step is not None:
            rewind = resuming.go_back(self.bundle, resume_step, self._claim.info.first_seq - 1)
            if rewind is not None:
                if not rewind.branches and read_trimmed(self.bundle.journal) is not None:
                    self._warn_once(
                        "resume_step",
                        f"resume_step: the run goes back to step {max(rewind.step, 0)}, and its stores keep the steps "
                        "logged beyond it too: rl_logging.keep has deleted what a new run there would begin with",
                    )
                return rewind.step
        return resuming.last_step(self.bundle)

    def _trim(self) -> None:
        try:
            trim(self.bundle, over=True)
        except (OSError, BundleError, JournalError) as error:
            self._warn_once("keep", f"keep: the journal stays as it is: {error}")

    def _log_sample(self, values: dict[str, float]) -> None:
        step, kept = self._stamp(values)
        if kept:
            self.append(Metrics.kind, step, kept)

    def _seal(self, status: RunStatus) -> None:
        try:
            self._journal.seal(End.kind, body_of(End(seq=0, time=0.0, status=status)))
        except JournalError as error:
            self._warn_once("journal", f"the run's end is not kept: {error}")

    def _disowned(self) -> None:
        """Another process goes on with the run: this one was silent for too long."""
        why = f"another process has taken over {self.path}, after this one was silent for too long"
        self._journal.disown(why)
        self._warn_once("journal", f"what is logged is not kept: {why}; training goes on")

    def forget(self) -> None:
        """See `Run.forget`."""
        self._arriving.forget()
        self._journal.forget()
        self._claim.forget()

    def _wait_for_delivery(self, deadline: float) -> None:
        progress = self._delivery.progress
        began = time.monotonic()
        self._delivery.wake()
        while progress.active and time.monotonic() < deadline:
            stuck = self._stuck()
            # A store that has been down until now may be back: it is asked once more, whatever came before.
            since_s = time.monotonic() - max(began, progress.moved_at)
            if stuck and since_s >= HOPELESS_S:
                return
            rest_s = deadline - time.monotonic()
            progress.wait(
                lambda was=stuck: not progress.active or self._stuck() != was,  # type: ignore[misc]
                max(0.0, min(rest_s, HOPELESS_S - since_s if stuck else rest_s)),
            )

    def _stuck(self) -> bool:
        """Whether nobody is getting anywhere: each destination is done, refuses, or waits for its store."""
        phases = [state.phase for state in self._delivery.progress.states.values()]
        return "backoff" in phases and all(phase in ("backoff", "done", "refused") for phase in phases)

    def _end_delivery(self) -> None:
        """Lets go of delivery: a store that is down is left for later, one that takes records goes on taking them."""
        progress = self._delivery.progress
        if progress.active:
            self._delivery.hurry()
            progress.wait(lambda: not progress.active, STOP_S if self._stuck() else 0.0)
        for entry in self._destinations.values():
            # What was kept may be newer than what was told.
            with contextlib.suppress(OSError, msgspec.DecodeError):
                progress.states[entry.key] = DestinationFile(self.bundle, entry).load()

    def _warn_of_sink(self, sink: str, message: str) -> None:
        self._warn_once(f"{sink}: {message}", f"{sink}: {message}")

    def _look_around(self) -> None:
        """Keeps where the run comes from, and names what earlier runs still owe; off the caller's thread."""
        self._capture_environment()
        try:
            debtors = unfinished(self.path.parent, most=EARLIER_RUNS, but=self.path)
        except Exception:  # whatever lies beside this run, it is not this run's trouble
            log.debug("looking at earlier runs", exc_info=True)
            return
        if debtors:
            names = ", ".join(path.name for path in debtors[:3]) + (" and others" if len(debtors) > 3 else "")
            self._warn_once(
                "unfinished",
                f"earlier runs here still owe records ({names}): send them with\n"
                f"    $ {sync_command(self.path.parent)}",
            )

    def _capture_environment(self) -> None:
        try:
            facts, patched = environment.capture(self.path, self.bundle.manifest.program)
        except OSError as error:
            self._warn_once("environment", f"environment.json could not be written: {error}")
            return
        record = Environment(
            seq=0, time=0.0, path="environment.json", patch="diff.patch" if patched else None, facts=facts
        )
        self.append(Environment.kind, None, body_of(record))


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


def new_id() -> str:
    """Returns an id for a run."""
    return "".join(tokens.choice(ID_ALPHABET) for _ in range(8))


def _new_name(program: Program, created: float) -> str:
    return f"{_stem(program)}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(created))}"


def _program(cwd: Path) -> Program:
    main_file = getattr(sys.modules.get("__main__"), "__file__", None)
    return Program(
        pid=os.getpid(),
        argv=tuple(map(_encodable, mask_arguments(sys.argv))),
        cwd=_encodable(str(cwd)),
        executable=_encodable(sys.executable),
        main=_encodable(os.path.abspath(main_file)) if main_file else None,
    )


def _encodable(text: str) -> str:
    """Returns a file name or argument that is no Unicode as one that is."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _stem(program: Program) -> str:
    if program.main is None:
        return "run"
    stem = Path(program.main).stem
    return Path(program.main).parent.name if stem == "__main__" else stem
