"""`ExperimentLogger`: verbs become records.

Every verb is safe from several threads, returns in microseconds (what must be copied from the caller excepted), and
never raises into training: what cannot be logged is a warning, once per kind, that names the key.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

from rl_logging import plugins
from rl_logging.bundle import resuming
from rl_logging.extraction.filters import MetricFilter
from rl_logging.extraction.intervals import Interval
from rl_logging.extraction.names import NameTable
from rl_logging.extraction.pipeline import Pipeline
from rl_logging.extraction.values import flatten
from rl_logging.jsonable import json_safe
from rl_logging.media import slug
from rl_logging.records import Artifact, Config, Image, Labels, Model, RunStatus, Video
from rl_logging.run import JournaledRun, NullRun, Run, endings, env_info, keeping, retention, summary
from rl_logging.run.config import RunConfig
from rl_logging.run.scores import Scores
from rl_logging.run.steps import StepClock
from rl_logging.run.summary import DestinationStatus
from rl_logging.settings import Loaded, Settings, load, ranks
from rl_logging.summary_writer import SummaryWriter
from rl_logging.videos.watch import VideoWatch

log = logging.getLogger("rl_logging")


class SavedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that was saved.

    Attributes:
        name: Its name.
        path: The folder that holds it.
        step: The step at which it was saved.
        metadata: What was given with it.
        aliases: What it is also called.
        seq: The seq of its record; None where it is kept in the run directory alone.
    """

    name: str
    path: Path
    step: int
    metadata: dict[str, Any] = {}
    aliases: tuple[str, ...] = ()
    seq: int | None = None


class ExperimentLogger:
    """Logs one run to every store the settings name.

    Use it as a context manager, or call `finish`; at the process's exit it is finished all the same.

    Args:
        config: The whole configuration: a mapping, an OmegaConf, a dataclass, a Namespace or anything `vars()` takes,
            the path of a YAML file, or None. Its sections ``rl_logging``, ``mlflow`` and ``wandb`` are the settings;
            all of it is logged as the run's configuration.
        env: The training environment; gives its number of environments, id and spec to the configuration, and the
            videos that recorders around it write.
        name: Display name; overrides the configuration, as do the others.
        project: MLflow's experiment and W&B's project, where theirs are not given.
        group: Runs that belong together.
        tags: Tags of the run.
        notes: Free text.
        delivery: ``process``, ``thread``, ``offline`` or ``disabled``.
        dir: Where run directories go.
        id: The run's id.
        resume: Which run to go on with: True, ``auto``, a run directory or an id; see the setting.
        sinks: ``{name: options}``, names, or live sink objects.
        quiet: No block at the start and the finish.

    Raises:
        SettingsError: A setting is wrong; the message names the key, what it got, and what it may be.
    """

    _run: Run | None
    _last_run: Run
    _callbacks: list[Callable[[], None]]
    _last_callbacks: list[Callable[[], None]]

    def __init__(
        self,
        config: object = None,
        env: object = None,
        *,
        name: str | None = None,
        project: str | None = None,
        group: str | None = None,
        tags: Iterable[str] | None = None,
        notes: str | None = None,
        delivery: Literal["process", "thread", "offline", "disabled"] | None = None,
        dir: str | Path | None = None,
        id: str | None = None,
        resume: bool | str | Path | None = None,
        sinks: object = None,
        quiet: bool | None = None,
    ) -> None:
        keywords = {
            "name": name,
            "project": project,
            "group": group,
            "tags": tags,
            "notes": notes,
            "delivery": delivery,
            "dir": dir,
            "id": id,
            "resume": resume,
            "sinks": sinks,
            "quiet": quiet,
        }
        loaded = ranks.for_this_process(load(config, keywords), os.environ)
        self.settings: Settings = loaded.settings
        self.env = env
        self._prepare()
        for notice in loaded.notices:
            log.warning("%s", notice)
        self._run = self._open(loaded)
        endings.watch(self)
        self._log_first(loaded, env)
        if env is not None:
            _adapter("videos").watch_env(self, env)

    # -- metrics ------------------------------------------------------------------------------------------------

    def log_metrics(self, metrics: Mapping[str, object], step: int | None = None) -> None:
        """Logs scalars.

        Args:
            metrics: Names to values, nested mappings becoming ``a/b``. Numbers, NumPy and torch scalars and
                one-element arrays are one value; larger arrays, tensors and sequences become ``name/mean``, ``/std``,
                ``/min`` and ``/max``; None is skipped; NaN and the infinities are kept. For values of other types see
                `register_converter`.
            step: Position on the run's clock. None: the attached adapter's clock; without one, one more than the
                highest step so far, from 0; or what `step` was set to.
        """
        run = self._run
        if run is None:
            self._refuse()
            return
        try:
            values = flatten(metrics, self._warn_of_key, max_depth=self._max_depth, wanted=self._wanted)
        except Exception as error:
            self.warn_once(
                f"log_metrics {type(metrics).__name__}",
                f"log_metrics: a {type(metrics).__name__} is not a mapping of names to numbers: {error}",
            )
            return
        if self._filter is not None:
            allows = self._filter.allows
            values = {name: value for name, value in values.items() if allows(name)}
        if values:
            self._scores.note(values)
            run.append("metrics", self._steps.stamp(step), values)

    def emit(self, values: dict[str, float], step: int | None) -> None:
        """Logs what an adapter's pipeline has named and filtered already."""
        run = self._run
        if run is not None and values:
            self._scores.note(values)
            run.append("metrics", self._steps.stamp(step), values)

    # -- everything else ----------------------------------------------------------------------------------------

    def log_config(self, config: object) -> None:
        """Adds to the run's configuration, key by key; a later value of a key wins.

        Args:
            config: What the constructor takes as `config`.
        """
        self._guarded("log_config", self._log_config, config)

    def log_image(self, name: str, image: object, step: int | None = None, caption: str | None = None) -> None:
        """Logs a picture.

        Args:
            name: Its name; pictures of one name are a series over steps.
            image: Shape (H, W), (H, W, C) or (C, H, W) with C of 1, 3 or 4; uint8, bool, or float in [0, 1]; NumPy,
                torch, PIL, a matplotlib figure, or the path of a file.
            step: As in `log_metrics`.
            caption: Shown below it.
        """
        self._guarded(f"log_image '{name}'", self._log_image, name, image, step, caption)

    def log_video(
        self, name: str, frames: object, step: int | None = None, fps: float = 30, caption: str | None = None
    ) -> None:
        """Logs a video.

        Args:
            name: Its name; videos of one name are a series over steps.
            frames: Shape (T, H, W, C) or (T, C, H, W), or a list of frames, as in `log_image`; or a file's path.
            step: As in `log_metrics`.
            fps: Frames a second.
            caption: Shown below it.
        """
        self._guarded(f"log_video '{name}'", self._log_video, name, frames, step, fps, caption)

    def log_artifact(
        self, path: str | Path, name: str | None = None, type: str = "file", metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Logs a file or folder, copied now.

        Args:
            path: Where it is.
            name: Its name in the stores; the file's own without.
            type: What kind of thing it is, such as ``plot`` or ``dataset``.
            metadata: JSON values that go with it.
        """
        self._guarded(f"log_artifact '{path}'", self._log_artifact, path, name, type, metadata)

    def log_text(self, name: str, text: str, step: int | None = None) -> None:
        """Logs a text as a Markdown file, which is an artifact of type ``text``.

        Args:
            name: Its name in the stores; texts of one name are versions of one thing.
            text: The text.
            step: Position on the run's clock; None: where the clock stands.
        """
        self._guarded(f"log_text '{name}'", self._log_text, name, text, step)

    def watch_videos(self, folder: str | Path, name: str | None = None) -> None:
        """Logs each video that anybody writes to a folder from now on, once it is whole.

        The folder is looked at about once a second, in a thread, and a last time when the run is finished. A video has
        the step where the run's clock stands when it is found.

        Args:
            folder: The folder, without its subfolders; it need not be there yet.
            name: What its videos are called; None: ``videos/`` and the file's name without the count at its end.
        """
        self._guarded("watch_videos", self._watch_videos, folder, name)

    def summary_writer(self, prefix: str = "") -> SummaryWriter:
        """Returns an object with the methods of torch's `SummaryWriter` that logs to this run.

        Args:
            prefix: Goes before each tag, as ``prefix/tag``.
        """
        return SummaryWriter(self, prefix)

    def save_model(
        self,
        model: object,
        name: str = "model",
        metadata: Mapping[str, Any] | None = None,
        step: int | None = None,
        aliases: Iterable[str] = (),
        upload: bool = True,
    ) -> SavedModel | None:
        """Saves a model below the run directory, and logs it.

        Args:
            model: A torch Module or a mapping of state_dicts; a stable-baselines3 algorithm, with its VecNormalize
                where it has one; a SKRL agent; the path of a file or folder.
            name: Its name; models of one name are versions of one thing.
            metadata: JSON values kept beside it.
            step: Position on the run's clock; None: where the clock stands (saving is no step of its own).
            aliases: What this version is also called, such as ``best``.
            upload: Whether the stores get it; otherwise it is kept in the run directory alone.

        Returns:
            Where it is and its step; None where it could not be saved, which is told.
        """
        return self._guarded(f"save_model '{name}'", self._save_model, model, name, metadata, step, aliases, upload)  # type: ignore[no-any-return]

    def discard_model(self, saved: SavedModel) -> bool:
        """Deletes a saved model's local copy, unless a store still needs it; it may be asked again later.

        A store needs it until it has confirmed it; one that has refused it, and an offline W&B run, always do.

        Args:
            saved: What `save_model` returned.

        Returns:
            Whether it is gone.
        """
        try:
            return self._discard_model(saved)
        except Exception as error:
            self.warn_once("discard_model", f"discard_model '{saved.name}': {saved.path} is not deleted: {error!r}")
            return False

    def set_tags(self, *tags: str | Iterable[str]) -> None:
        """Replaces the run's tags."""
        self._guarded("set_tags", self._set_tags, tags)

    def set_notes(self, notes: str) -> None:
        """Replaces the run's notes."""
        self._guarded("set_notes", self._append, Labels.kind, None, {"tags": None, "notes": str(notes)})

    # -- adapters -----------------------------------------------------------------------------------------------

    def get_callbacks(self, eval_env: Any = None, **options: Any) -> list[Any]:
        """Returns stable-baselines3 callbacks that log to this run, for ``model.learn(callback=...)``.

        What is recorded is logged; the settings ``rl_logging.eval``, ``.checkpoint`` and ``.video`` add evaluations,
        checkpoints and videos.

        Args:
            eval_env: Where to evaluate: an environment that is not the training's, a VecEnv, an environment's id, or
                a callable that makes one. None: another one like `env`.
            **options: See `rl_logging.adapters.stable_baselines3.make_callbacks`.

        Raises:
            SettingsError: An argument is wrong.
            ValueError: There is no environment to evaluate in, or to record.
            ImportError: stable-baselines3 is not installed.
        """
        return list(_adapter("stable_baselines3").make_callbacks(self, eval_env, **options))

    def attach(self, agent: object, **options: Any) -> Any:
        """Hooks a SKRL agent, or a Runner's, so that what it tracks is logged.

        Args:
            agent: The agent or Runner.
            **options: See `rl_logging.adapters.skrl.attach`.

        Returns:
            A handle with ``detach()``.

        Raises:
            AttributeError: It is no SKRL agent.
            ImportError: skrl is not installed.
        """
        return _adapter("skrl").attach(self, agent, **options)

    def pipeline(self, table: NameTable) -> Pipeline:
        """Returns the pipeline through which an adapter logs, made from the settings."""
        settings = self.settings
        made = Pipeline(
            self.emit,
            table,
            names=settings.names,
            metric_filter=self._adapter_filter,
            interval=Interval.parse(settings.interval),
            warn=self.warn_once,
            aliases=settings.aliases,
            max_depth=settings.max_depth,
        )
        self._pipelines.append(made)
        return made

    def set_clock(self, read: Callable[[], int | None] | None) -> None:
        """Sets the clock of step-less calls; None takes it away."""
        self._steps.read = read

    def add_config_defaults(self, values: Mapping[str, Any]) -> None:
        """Logs configuration that an adapter found out; keys the user has given stay as they are."""
        self._guarded("configuration", self._log_defaults, values)

    def on_finish(self, callback: Callable[[], None], *, last: bool = False) -> None:
        """Has `callback` called at the start of `finish`, or as the last thing it does, when delivery is over."""
        (self._last_callbacks if last else self._callbacks).append(callback)

    def warn_once(self, key: str, message: str) -> None:
        """Shows a warning, once per `key`."""
        if key not in self._warned:
            self._warned.add(key)
            # What is no Unicode, in a name of the user's, cannot be written to a terminal or a file.
            log.warning("%s", message.encode("utf-8", "backslashreplace").decode("utf-8"))

    @property
    def num_envs(self) -> int | None:
        """How many environments `env` steps at once; None without one."""
        return env_info.num_envs_of(self.env)

    # -- looking ------------------------------------------------------------------------------------------------

    @property
    def accepted(self) -> int:
        """How many records the journal has accepted."""
        return self._last_run.accepted

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        return self._path

    @property
    def resumed(self) -> bool:
        """Whether this goes on with a run that was there already."""
        return self._resumed

    def latest_checkpoint(self) -> SavedModel | None:
        """Returns the model of the run that was saved last and is still in the run directory; None where there is none.

        After a crash, go on from it: `rl_logging.adapters.stable_baselines3.load_checkpoint` gives the model back.
        """
        run = self._last_run
        if not isinstance(run, JournaledRun):
            return None
        models = self._look_up("latest_checkpoint", resuming.saved_models, run.bundle)
        if not models:
            return None
        latest = models[-1]
        path = run.bundle.resolve(latest.path)
        return SavedModel(
            name=latest.name,
            path=path,
            step=latest.step or 0,
            metadata=dict(latest.metadata),
            aliases=tuple(latest.aliases),
            seq=latest.seq,
        )

    @property
    def step(self) -> int:
        """Where the run's clock stands: the adapter's, or the highest step logged; 0 before any.

        Set it to stamp step-less calls with that step until it is set again; None lets them count up once more.
        """
        return self._steps.now

    @step.setter
    def step(self, step: int | None) -> None:
        self._steps.pin(step)

    def get_final_score(self) -> float | None:
        """Returns the mean of the last 10 evaluations, or of as many as there were; None without any.

        An evaluation is what was logged as ``eval/episode_reward_mean`` (or ``eval/mean_reward``), by an adapter or by
        `log_metrics`.
        """
        return self._scores.mean()

    def run_id(self, sink: str, timeout: float | None = None) -> str | None:
        """Returns the remote run's id in `sink`; None while it is not known.

        Args:
            sink: The sink's name.
            timeout: For how many seconds to wait for it; None: `finish_timeout_s`, 0: not at all.
        """
        state = self._await_state(sink, timeout, lambda state: state.remote_id is not None)
        return None if state is None else state.remote_id

    def url(self, sink: str, timeout: float | None = None) -> str | None:
        """Returns where a person looks at the remote run in `sink`; None while, or where, there is no such place.

        Args:
            sink: The sink's name.
            timeout: As in `run_id`.
        """
        state = self._await_state(sink, timeout, lambda state: state.remote is not None)
        return None if state is None else state.url

    def status(self) -> dict[str, DestinationStatus]:
        """Returns how far each destination has come, by the sink's name."""
        run = self._last_run
        return {name: summary.destination_status(run.accepted, state) for name, (_, state) in run.states().items()}

    def flush(self, timeout: float = 10) -> bool:
        """Waits until every store has what was logged so far; False where `timeout` seconds were not enough."""
        run = self._run
        if run is None:
            return not any(status.pending for status in self.status().values())
        target = run.accepted
        run.wake()

        def settled() -> bool:
            states = [state for _, state in run.states().values()]
            return all(state.confirmed >= target or state.phase == "refused" for state in states)

        run.wait(settled, _bounded(timeout))
        return all(state.confirmed >= target for _, state in run.states().values())

    def finish(self, status: RunStatus = "finished", timeout: float | None = None) -> None:
        """Ends the run: delivers what is left, and tells what came of it. Idempotent.

        Args:
            status: ``finished``, ``failed`` or ``killed``.
            timeout: For how many seconds to wait at most; None: the setting `finish_timeout_s`. With every store
                out of reach, 5 seconds.
        """
        if status not in ("finished", "failed", "killed"):
            self.warn_once("finish status", f"finish: {status!r} is not one of finished, failed, killed")
            status = "failed"
        with self._finishing:
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                self._guarded("finish", callback)
            if self._pipelines and self._run is not None:
                self._guarded("names.json", self._log_names)
            run, self._run = self._run, None
            if run is None:
                return
            endings.unwatch(self)
            try:
                run.finish(status, _bounded(self.settings.finish_timeout_s if timeout is None else timeout))
            finally:  # Ctrl-C while it waits: what is owed is told all the same
                self._call_last()
                self._tell_of_filter()
                if not self.settings.quiet:
                    self._announce_end(run, status)

    def __enter__(self) -> ExperimentLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.finish(endings.status_of(kind, error))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} in {self._path}>"

    def _repr_html_(self) -> str:
        return summary.as_html(self._name, self._path, self.status())

    def __reduce__(self) -> tuple[Any, ...]:
        # What is unpickled in another process logs nothing there: the run belongs to this one.
        return _silenced, (type(self), self.settings, self._name, str(self._path))

    def become_silent(self) -> None:
        """In a forked child: verbs warn once and do nothing."""
        run, self._run = self._run, None
        self._why_silent = "it was made in another process, which goes on logging: only that one does"
        self._finishing = threading.RLock()
        self._steps.forget()
        if run is not None:
            run.forget()
        self._last_run = NullRun(Loaded(settings=self.settings, sinks=(), config={}))

    # -- inside -------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._finishing = threading.RLock()
        self._warned: set[str] = set()
        self._steps = StepClock(self.warn_once)
        self._callbacks = []
        self._last_callbacks = []
        self._scores = Scores()
        self._pipelines: list[Pipeline] = []
        self._config = RunConfig()
        self._why_silent = "the run is finished"
        self._resumed = False
        self._adapter_filter = MetricFilter(self.settings.metric_filter)
        self._filter = self._adapter_filter if self.settings.metric_filter else None
        self._wanted = None if self._filter is None else self._filter.wants
        self._max_depth = self.settings.max_depth

    def _open(self, loaded: Loaded) -> Run:
        run: NullRun | JournaledRun
        if loaded.settings.delivery == "disabled":
            run = NullRun(loaded)
        else:
            run = JournaledRun(loaded, self.warn_once, self._stamp_sample)
        self._last_run = run
        self._path = run.path
        self._name = run.bundle.manifest.name if isinstance(run, JournaledRun) else loaded.settings.name or "disabled"
        if isinstance(run, JournaledRun):
            self._resumed = run.resumed
            self._steps.go_on_from(run.first_step)
            entries = {name: entry for name, (entry, _) in run.states().items()}
            if not entries:
                log.warning("no sink is configured%s: the run is kept in %s alone", _why_none(), run.path)
            if not loaded.settings.quiet:
                summary.announce(summary.start_block(self._name, run.path, loaded.settings.delivery, entries))
        return run

    def _log_first(self, loaded: Loaded, env: object) -> None:
        if loaded.config:
            self._guarded("config", self._log_config, loaded.config)
        described = env_info.describe(env)
        if described:
            found = self._config.found({"env": described, "num_envs": described["num_envs"]})
            self._guarded("config", self._log_config, found)  # the env given here counts as the user's word

    def _append(self, kind: str, step: int | None, body: object) -> int | None:
        run = self._run
        if run is None:
            self._refuse()
            return None
        return run.append(kind, step, body)

    def _refuse(self) -> None:
        self.warn_once("silent", f"nothing more is logged to '{self._name}': {self._why_silent}")

    def _guarded(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls `function`; what goes wrong is told and never reaches training."""
        if self._run is None:
            self._refuse()
            return None
        try:
            return function(*arguments)
        except Exception as error:
            reason = str(error) if isinstance(error, (ValueError, TypeError, OSError)) else repr(error)
            self.warn_once(f"{what} {type(error).__name__}", f"{what}: not logged: {reason}")
            log.debug("%s", what, exc_info=True)
            return None

    def _look_up(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls `function`, which only reads, also after `finish`; what goes wrong is told."""
        try:
            return function(*arguments)
        except Exception as error:
            self.warn_once(f"{what} {type(error).__name__}", f"{what}: {error}")
            return None

    def _warn_of_key(self, key: str, message: str) -> None:
        self.warn_once(f"metric {key}", message)

    def _log_config(self, config: object) -> None:
        self._append(Config.kind, None, self._config.given(config))

    def _set_tags(self, tags: tuple[str | Iterable[str], ...]) -> None:
        flat: list[str] = []
        for tag in tags:
            flat.extend([tag] if isinstance(tag, str) else map(str, tag))
        self._append(Labels.kind, None, {"tags": flat, "notes": None})

    def _log_defaults(self, values: Mapping[str, Any]) -> None:
        new = self._config.found(values)
        if new:
            self._append(Config.kind, None, new)

    def _log_image(self, name: str, image: object, step: int | None, caption: str | None) -> None:
        at = self._steps.stamp(step)
        room = self._last_run.room
        if room is not None:
            self._append(Image.kind, at, keeping.keep_image(room, name, image, at, caption))

    def _log_video(self, name: str, frames: object, step: int | None, fps: float, caption: str | None) -> None:
        at = self._steps.stamp(step)
        room = self._last_run.room
        if room is not None:
            self._append(Video.kind, at, keeping.keep_video(room, name, frames, at, float(fps), caption))

    def _log_artifact(self, given: str | Path, name: str | None, kind: str, metadata: Mapping[str, Any] | None) -> None:
        room = self._last_run.room
        if room is not None:
            path = Path(given)
            body = keeping.keep_artifact(room, name or path.resolve().name, path, kind, metadata)
            self._append(Artifact.kind, self._steps.now, body)

    def _stamp_sample(self, values: dict[str, float]) -> tuple[int, dict[str, float]]:
        """Gives a sample of the machine the step where the clock stands; called by other threads."""
        allows = self._adapter_filter.allows
        return self._steps.now, {name: value for name, value in values.items() if allows(name)}

    def _log_names(self) -> None:
        pipelines, self._pipelines = self._pipelines, []
        names: dict[str, dict[str, Any]] = {}
        for pipeline in pipelines:
            for name, origin in pipeline.origins().items():
                names.setdefault(name, dataclasses.asdict(origin))
        room = self._last_run.room
        if names and room is not None:
            self._append(Artifact.kind, self._steps.now, keeping.keep_names(room, names))

    def _log_text(self, name: str, text: str, step: int | None) -> None:
        at = self._steps.stamp(step, advance=False)
        room = self._last_run.room
        if room is not None:
            self._append(Artifact.kind, at, keeping.keep_text(room, name, str(text)))

    def _watch_videos(self, folder: str | Path, name: str | None) -> None:
        VideoWatch.of(self).add(folder, name, poll=True)

    def _save_model(
        self,
        model: object,
        name: str,
        metadata: Mapping[str, Any] | None,
        step: int | None,
        aliases: Iterable[str],
        upload: bool,
    ) -> SavedModel:
        at = self._steps.stamp(step, advance=False)
        kept: Any = json_safe(dict(metadata or {}))
        called = (aliases,) if isinstance(aliases, str) else tuple(map(str, aliases))
        room = self._last_run.room
        path = self._path / "models" / slug(name) / f"step_{at}"
        seq = None
        if room is not None:
            body = keeping.keep_model(room, name, model, at, time.time(), kept, called)
            path = room / body["path"]
            seq = self._append(Model.kind, at, body) if upload else None
        return SavedModel(name=name, path=path, step=at, metadata=kept, aliases=called, seq=seq)

    def _discard_model(self, saved: SavedModel) -> bool:
        run = self._last_run
        if run.room is None:
            return True
        if saved.seq is not None:
            states = run.states()
            owed = retention.owed_to(states, run.room, saved.seq)
            if owed is not None:
                if retention.refers(states[owed][0]):
                    self.warn_once(
                        "discard_model refers",
                        f"models stay in {self._path / 'models'}: what '{owed}' has of an offline run refers to them",
                    )
                return False
        retention.delete(saved.path)
        return True

    def _call_last(self) -> None:
        callbacks, self._last_callbacks = self._last_callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception as error:
                self.warn_once("finish", f"finish: {error!r}")

    def _await_state(self, sink: str, timeout: float | None, known: Callable[[Any], bool]) -> Any:
        run = self._last_run
        if sink not in run.states():
            if self.settings.delivery != "disabled":
                self.warn_once(f"sink {sink}", f"this run has no sink '{sink}': it has {', '.join(run.states())}")
            return None
        if self.settings.delivery != "offline" and self._run is not None:
            run.wait(
                lambda: known(run.states()[sink][1]) or run.states()[sink][1].phase in ("refused", "done"),
                _bounded(self.settings.finish_timeout_s if timeout is None else timeout),
            )
        return run.states()[sink][1]

    def _tell_of_filter(self) -> None:
        unmatched = self._filter.unmatched() if self._filter is not None else []
        if unmatched:
            log.warning("rl_logging.metric_filter: nothing was called %s", ", ".join(map(repr, unmatched)))

    def _announce_end(self, run: Run, status: str) -> None:
        if isinstance(run, JournaledRun):
            lost, goes_on = run.lost, run.goes_on
            summary.announce(
                summary.finish_block(self._name, status, self._path, run.accepted, lost, run.states(), goes_on)
            )


def _bounded(timeout_s: float) -> float:
    """Returns a timeout that the system's clocks can hold."""
    return min(max(0.0, timeout_s), threading.TIMEOUT_MAX / 2)


def _why_none() -> str:
    return "" if plugins.sdk_present("mlflow") else ", and mlflow is not installed"


def _adapter(name: str) -> Any:
    """Returns an adapter's module; adapters stand above the logger, so they are reached by name."""
    return importlib.import_module(f"rl_logging.adapters.{name}")


def _silenced(kind: type[ExperimentLogger], settings: Settings, name: str, path: str) -> ExperimentLogger:
    logger = kind.__new__(kind)
    logger.settings = settings
    logger.env = None
    logger._prepare()
    logger._run = None
    logger._name = name
    logger._path = Path(path)
    logger._last_run = NullRun(Loaded(settings=settings, sinks=(), config={}))
    logger._why_silent = "it was made in another process, which goes on logging: only that one does"
    return logger
