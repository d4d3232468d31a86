"""`ExperimentLogger`: verbs become records.

Every verb is safe from several threads, returns in microseconds (what must be copied from the caller excepted), and
never raises into training: what cannot be logged is a warning, once per kind, that names the key.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from rl_logging.extraction.intervals import Interval
from rl_logging.extraction.names import NameTable
from rl_logging.extraction.pipeline import Pipeline
from rl_logging.extraction.values import flatten
from rl_logging.jsonable import json_safe
from rl_logging.media import slug
from rl_logging.records import Artifact, Config, Image, Labels, Model, Video
from rl_logging.run import children, endings, env_info, keeping, retention
from rl_logging.run.goals import GOALS, earlier_best
from rl_logging.run.journaled import JournaledRun, Run
from rl_logging.run.lifetime import RunLifetime
from rl_logging.run.saved_model import SavedModel
from rl_logging.settings import Loaded, Settings, SettingsError, load, ranks
from rl_logging.summary_writer import SummaryWriter
from rl_logging.videos.watch import VideoWatch

log = logging.getLogger("rl_logging")


class ExperimentLogger(RunLifetime):
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
        parent: The run that this one is a part of: a run directory, or an id. See `child`.
        tags: Tags of the run.
        notes: Free text.
        delivery: ``process``, ``thread``, ``offline`` or ``disabled``.
        dir: Where run directories go.
        id: The run's id.
        resume: Which run to go on with: True, ``auto``, a run directory or an id; see the setting.
        resume_step: Which step to go back to then: a step, or ``checkpoint``, the latest one's; see the setting.
        sinks: ``{name: options}``, names, or live sink objects.
        quiet: No block at the start and the finish.

    Raises:
        SettingsError: A setting is wrong; the message names the key, what it got, and what it may be.
    """

    def __init__(
        self,
        config: object = None,
        env: object = None,
        *,
        name: str | None = None,
        project: str | None = None,
        group: str | None = None,
        parent: str | Path | None = None,
        tags: Iterable[str] | None = None,
        notes: str | None = None,
        delivery: Literal["process", "thread", "offline", "disabled"] | None = None,
        dir: str | Path | None = None,
        id: str | None = None,
        resume: bool | str | Path | None = None,
        resume_step: int | Literal["checkpoint"] | None = None,
        sinks: object = None,
        quiet: bool | None = None,
    ) -> None:
        keywords = {
            "name": name,
            "project": project,
            "group": group,
            "parent": parent,
            "tags": tags,
            "notes": notes,
            "delivery": delivery,
            "dir": dir,
            "id": id,
            "resume": resume,
            "resume_step": resume_step,
            "sinks": sinks,
            "quiet": quiet,
        }
        self._begin(ranks.for_this_process(load(config, keywords), os.environ), env)

    def _begin(self, loaded: Loaded, env: object) -> None:
        self.settings: Settings = loaded.settings
        self.env = env
        self._sinks = loaded.sinks
        self._prepare()
        for notice in loaded.notices:
            log.warning("%s", notice)
        self._run = self._open(loaded)
        endings.watch(self)
        self._log_first(loaded, env)
        if env is not None:
            _adapter("videos").watch_env(self, env)

    def child(
        self,
        name: str | None = None,
        config: object = None,
        env: object = None,
        *,
        tags: Iterable[str] | None = None,
        notes: str | None = None,
        id: str | None = None,
        resume: bool | str | Path | None = None,
        quiet: bool | None = None,
    ) -> ExperimentLogger:
        """Begins a run below this one, such as a sweep's trial: nested in MLflow, in this run's group in W&B.

        It is a run of its own, with its own directory beside this one's, and is finished by itself. It takes over this
        run's settings and sinks where its configuration has none. In another process or on another machine, give this
        run's directory or id as the setting ``parent`` instead.

        Args:
            name: Display name.
            config: As in the constructor.
            env: As in the constructor.
            tags: Tags of the run; None: this run's.
            notes: Free text.
            id: The run's id; None: a new one, whatever the environment says.
            resume: As in the constructor.
            quiet: As in the constructor; None: as this run.

        Raises:
            SettingsError: A setting is wrong, or this logger was made in another process.
        """
        if self._sinks is None:
            raise SettingsError(
                "child: this logger was made in another process: make an ExperimentLogger here, with "
                f"rl_logging.parent: {self._path}"
            )
        keywords = {"name": name, "tags": tags, "notes": notes, "id": id, "resume": resume, "quiet": quiet}
        kind = type(self)
        logger = kind.__new__(kind)
        logger._begin(children.below(self.settings, self._sinks, self._path, config, keywords), env)
        return logger

    # -- metrics ------------------------------------------------------------------------------------------------

    def log_metrics(self, metrics: Mapping[str, object], step: int | None = None) -> None:
        """Logs scalars.

        Args:
            metrics: Names to values, nested mappings becoming ``a/b``. Numbers, NumPy and torch scalars and
                one-element arrays are one value; larger arrays, tensors and sequences become ``name/mean``, ``/std``,
                ``/min`` and ``/max``; None is skipped; NaN and the infinities are kept. For values of other types see
                `register_converter`. CUDA tensors are not waited for: the record is accepted when their values are
                there, which `status` and `flush` tell, with the step and time of this call.
            step: Position on the run's clock. None: the attached adapter's clock; without one, one more than the
                highest step so far, from 0; or what `step` was set to.
        """
        run = self._run
        if run is None:
            self._refuse()
            return
        later: dict[str, Any] = {}
        try:
            values = flatten(metrics, self._warn_of_key, max_depth=self._max_depth, wanted=self._wanted, later=later)
        except Exception as error:
            self.warn_once(
                f"log_metrics {type(metrics).__name__}",
                f"log_metrics: a {type(metrics).__name__} is not a mapping of names to numbers: {error}",
            )
            return
        if self._filter is not None:
            allows = self._filter.allows
            values = {name: value for name, value in values.items() if allows(name)}
            later = {name: tensor for name, tensor in later.items() if name in values}
        if later:
            self._keep_later(run, values, later, self._steps.stamp(step))
        elif values:
            self._keep(run, values, self._steps.stamp(step))

    def emit(self, values: dict[str, float], step: int | None) -> None:
        """Logs what an adapter's pipeline has named and filtered already."""
        run = self._run
        if run is not None and values:
            self._keep(run, values, self._steps.stamp(step))

    def define_metric(self, name: str, goal: Literal["max", "min"], description: str | None = None) -> None:
        """Has the best value of a metric stand in each store's summary, beside the last.

        Whenever a value is better than all before, it is logged as ``<name>/best`` too, and its step as
        ``<name>/best_step``. The goal and the description go to the configuration, below ``define_metric``.

        Args:
            name: The metric's name, as it is logged.
            goal: ``max`` or ``min``: which values are better.
            description: What it means, for people.
        """
        self._guarded(f"define_metric '{name}'", self._define_metric, name, goal, description)

    def best(self, name: str) -> float | None:
        """Returns the best value of a metric that was given to `define_metric`; None before any.

        A Hydra or Optuna objective can return it. Of a run that was resumed, the earlier parts count too.
        """
        if not self._goals.defined(name):
            self.warn_once(f"best {name}", f"best: '{name}' has no goal: call define_metric('{name}', goal=...) first")
        return self._goals.best(name)

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
        register: str | None = None,
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
            register: The registered model that it becomes a version of, in stores that have a registry: MLflow's
                model registry, W&B's.

        Returns:
            Where it is and its step; None where it could not be saved, which is told.
        """
        given = (model, name, metadata, step, aliases, upload, register)
        return self._guarded(f"save_model '{name}'", self._save_model, *given)  # type: ignore[no-any-return]

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

    @property
    def num_envs(self) -> int | None:
        """How many environments `env` steps at once; None without one."""
        return env_info.num_envs_of(self.env)

    # -- inside -------------------------------------------------------------------------------------------------

    def _log_first(self, loaded: Loaded, env: object) -> None:
        if loaded.config:
            self._guarded("config", self._log_config, loaded.config)
        described = env_info.describe(env)
        if described:
            found = self._config.found({"env": described, "num_envs": described["num_envs"]})
            self._guarded("config", self._log_config, found)  # the env given here counts as the user's word

    def _keep(self, run: Run, values: dict[str, float], step: int, time_s: float | None = None) -> None:
        self._scores.note(values)
        run.append("metrics", step, self._goals.with_best(values, step) if self._goals else values, time_s)

    def _keep_later(self, run: Run, values: dict[str, float], later: Mapping[str, Any], step: int) -> None:
        def accept(figures: list[float], time_s: float) -> None:
            values.update(zip(later, figures, strict=True))
            self._keep(run, values, step, time_s)

        run.hold(list(later.values()), accept)

    def _define_metric(self, name: str, goal: Literal["max", "min"], description: str | None) -> None:
        if goal not in GOALS:
            raise ValueError(f"goal: got {goal!r}, may be 'max' or 'min'")
        told = {"goal": goal} if description is None else {"goal": goal, "description": description}
        self._append(Config.kind, None, self._config.given({"define_metric": {name: told}}))
        run = self._last_run
        before = earlier_best(run.bundle, name) if self._resumed and isinstance(run, JournaledRun) else None
        self._goals.define(name, goal, before)

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
        register: str | None,
    ) -> SavedModel:
        at = self._steps.stamp(step, advance=False)
        kept: Any = json_safe(dict(metadata or {}))
        called = (aliases,) if isinstance(aliases, str) else tuple(map(str, aliases))
        if register is not None and not upload:
            self.warn_once(f"register {name}", f"save_model '{name}': no store registers what is not uploaded")
        room = self._last_run.room
        path = self._path / "models" / slug(name) / f"step_{at}"
        seq = None
        if room is not None:
            body = keeping.keep_model(room, name, model, at, time.time(), kept, called, register)
            path = room / body["path"]
            seq = self._append(Model.kind, at, body) if upload else None
        return SavedModel(name=name, path=path, step=at, metadata=kept, aliases=called, seq=seq)

    def _discard_model(self, saved: SavedModel) -> bool:
        run = self._last_run
        if run.room is None:
            return True
        if saved.seq is not None:
            owed = retention.owed_to(run.states(), run.room, saved.seq)
            if owed is not None:
                if retention.refers(owed):
                    where = self._path / "models"
                    self.warn_once(
                        "discard_model refers",
                        f"models stay in {where}: what '{owed.name}' has of an offline run refers to them",
                    )
                return False
        retention.delete(saved.path)
        return True


def _adapter(name: str) -> Any:
    """Returns an adapter's module; adapters stand above the logger, so they are reached by name."""
    return importlib.import_module(f"rl_logging.adapters.{name}")
