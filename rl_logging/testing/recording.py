"""An `ExperimentLogger` whose journal is memory: for tests of code that logs."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rl_logging.bundle import SinkEntry
from rl_logging.bundle.destination import DestinationState, Phase
from rl_logging.logger import ExperimentLogger
from rl_logging.media import materialize
from rl_logging.records import (
    Artifact,
    Config,
    End,
    Image,
    Labels,
    Metrics,
    Model,
    Record,
    RunStatus,
    Video,
    body_of,
    decode,
    decode_envelope,
    encode,
)
from rl_logging.run import Run, endings
from rl_logging.run.saved_model import SavedModel
from rl_logging.settings import Loaded
from rl_logging.testing.memory_run import merge

R = TypeVar("R", bound=Record)

SINK = "memory"


class RecordingLogger(ExperimentLogger):
    """An `ExperimentLogger` that keeps what it is given, and delivers it nowhere.

    Conversion, names, filters, steps, warnings and the adapters are the real ones, and so are the files of images,
    models and artifacts; they go to a temporary folder that is removed with the logger. Sections of stores in the
    configuration (``mlflow``, ``wandb``) are checked for form and not used.

    Args:
        config: See `ExperimentLogger`.
        env: See `ExperimentLogger`.
        dir: A folder to keep files in, instead of a temporary one.
        **settings: ``name``, ``project``, ``group``, ``tags``, ``notes``, ``id`` of `ExperimentLogger`.

    Attributes:
        records: Everything that was logged, in order.
        warnings: What the logger warned of, each once.
        ended: The status it was finished with; None before.

    Raises:
        SettingsError: As `ExperimentLogger` does.
    """

    def __init__(
        self, config: object = None, env: object = None, *, dir: str | Path | None = None, **settings: Any
    ) -> None:
        self._dir = dir
        # No sink: what the configuration names would be looked for, and mlflow is the default where there is none.
        super().__init__(config, env, **{**settings, "delivery": "disabled", "dir": dir, "sinks": False})
        # Nobody can look at it after the process's exit, and until then it may go with the test that made it.
        endings.unwatch(self)

    @property
    def records(self) -> list[Record]:
        """Everything that was logged, in order."""
        return list(self._memory.records)

    @property
    def metrics(self) -> list[dict[str, float]]:
        """The rows that were logged: flat names to values."""
        return [record.values for record in self._of(Metrics)]

    @property
    def points(self) -> list[tuple[str, int | None, float]]:
        """All scalars as (name, step, value), in the order in which they were logged."""
        return [(name, row.step, value) for row in self._of(Metrics) for name, value in row.values.items()]

    @property
    def names(self) -> list[str]:
        """The names of all scalars, each once, in the order of their first value."""
        return list(dict.fromkeys(name for name, _, _ in self.points))

    def series(self, name: str) -> list[tuple[int | None, float]]:
        """Returns what was logged under `name` as (step, value)."""
        return [(step, value) for own, step, value in self.points if own == name]

    def values(self, name: str) -> list[float]:
        """Returns what was logged under `name`, without the steps."""
        return [value for _, value in self.series(name)]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, all parts together, as JSON values."""
        merged: dict[str, Any] = {}
        for record in self._of(Config):
            merge(merged, record.values)
        return merged

    @property
    def images(self) -> list[Image]:
        """The pictures; see `file_of`."""
        return self._of(Image)

    @property
    def videos(self) -> list[Video]:
        """The videos; see `file_of`."""
        return self._of(Video)

    @property
    def models(self) -> list[Model]:
        """The saved models; see `file_of`."""
        return self._of(Model)

    @property
    def artifacts(self) -> list[Artifact]:
        """The files and folders; see `file_of`."""
        return self._of(Artifact)

    def file_of(self, record: Image | Video | Model | Artifact) -> Path:
        """Returns the file or folder that a store would get: a PNG, an MP4, a model's folder, a copy.

        Raises:
            MediaError: The picture or video cannot be encoded.
        """
        if isinstance(record, (Image, Video)):
            return materialize(self.run_dir, record)
        return self.run_dir / record.path

    @property
    def tags(self) -> tuple[str, ...]:
        """The run's tags as they stand."""
        changes = [record.tags for record in self._of(Labels) if record.tags is not None]
        return changes[-1] if changes else self.settings.tags

    @property
    def notes(self) -> str | None:
        """The run's notes as they stand."""
        changes = [record.notes for record in self._of(Labels) if record.notes is not None]
        return changes[-1] if changes else self.settings.notes

    @property
    def ended(self) -> RunStatus | None:
        """The status it was finished with; None before."""
        ends = self._of(End)
        return ends[-1].status if ends else None

    def warn_once(self, key: str, message: str) -> None:
        """Shows a warning, once per `key`, and keeps it in `warnings`."""
        if key not in self._warned:
            self.warnings.append(message)
        super().warn_once(key, message)

    def __enter__(self) -> RecordingLogger:
        return self

    def _discard_model(self, saved: SavedModel) -> bool:
        return False  # it stays, for `file_of`

    def _prepare(self) -> None:
        self.warnings: list[str] = []
        self._memory = _MemoryRun(Path(), self.warn_once)
        super()._prepare()

    def _open(self, loaded: Loaded) -> Run:
        if self._dir is None:
            folder = Path(tempfile.mkdtemp(prefix="rl_logging-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        else:
            folder = Path(self._dir)
        self._memory = _MemoryRun(folder, self.warn_once)
        run: Any = self._memory
        self._last_run = run
        self._path = self._memory.path
        self._name = loaded.settings.name or "recorded"
        return self._memory

    def _of(self, kind: type[R]) -> list[R]:
        return [record for record in self._memory.records if isinstance(record, kind)]


class _MemoryRun:
    """A run whose journal is a list, and whose one destination has everything at once.

    Args:
        path: Where files go.
        warn_once: As for `rl_logging.run.JournaledRun`.
    """

    def __init__(self, path: Path, warn_once: Callable[[str, str], None]) -> None:
        self.path = path.absolute()
        self.records: list[Record] = []
        self.accepted = 0
        self._warn_once = warn_once
        self._lock = threading.Lock()
        self._entry = SinkEntry(name=SINK, options={}, given={}, destination="this process", key=SINK, live=True)
        self._phase: Phase = "delivering"

    @property
    def on_device(self) -> int:
        """None: their values are waited for."""
        return 0

    def hold(self, tensors: Sequence[Any], accept: Callable[[list[Any], float], None], *, whole: bool = False) -> None:
        """Waits for the values, so that a test finds its record at once."""
        accept([tensor.cpu() if whole else float(tensor.item()) for tensor in tensors], time.time())

    def settle(self, timeout_s: float) -> bool:
        """Nothing is held."""
        return True

    def append(self, kind: str, step: int | None, body: object, time_s: float | None = None) -> int | None:
        """Keeps a record as it comes back from a journal."""
        with self._lock:
            seq = self.accepted + 1
            try:
                record = decode(decode_envelope(encode(seq, time_s or time.time(), step, kind, body)))
            except (TypeError, ValueError, OverflowError) as error:
                self._warn_once(f"journal {kind}", f"a {kind} record was not kept: {error}")
                return None
            self.accepted = seq
            self.records.append(record)
            return seq

    @property
    def room(self) -> Path:
        """The folder for what records point to."""
        return self.path

    def states(self) -> dict[str, tuple[SinkEntry, DestinationState]]:
        """Returns that everything has arrived."""
        state = DestinationState(
            sink=SINK,
            destination=self._entry.destination,
            remote={"id": SINK},
            confirmed=self.accepted,
            handed_over=self.accepted,
            delivered=self.accepted,
            phase=self._phase,
        )
        return {SINK: (self._entry, state)}

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Returns at once: nothing is on its way."""
        return done()

    def wake(self, wait_s: float) -> None:
        """Nobody is there."""

    def finish(self, status: RunStatus, timeout_s: float) -> None:
        """Keeps the End record."""
        self.append(End.kind, None, body_of(End(seq=0, time=0.0, status=status)))
        self._phase = "done"

    def forget(self) -> None:
        """Takes a new lock in a forked child."""
        self._lock = threading.Lock()
