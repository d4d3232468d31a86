"""`ExperimentLogger`: verbs become records.

Every verb is safe from several threads, returns in microseconds (what must be copied from the caller excepted), and
never raises into training: what cannot be logged is a warning, once per kind, that names the key.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from rl_logging.records import Config, Labels
from rl_logging.run import children, endings, env_info
from rl_logging.run.adapter_verbs import AdapterVerbs, adapter
from rl_logging.run.file_verbs import FileVerbs
from rl_logging.run.lifetime import RunLifetime
from rl_logging.settings import Loaded, Settings, SettingsError, load, ranks
from rl_logging.summary_writer import SummaryWriter
from rl_logging.videos.watch import VideoWatch

log = logging.getLogger("rl_logging")


class ExperimentLogger(AdapterVerbs, FileVerbs, RunLifetime):
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
        **settings: Any other key of the section ``rl_logging``, such as ``interval``; None counts as not given.

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
        **settings: Any,
    ) -> None:
        keywords = {
            **settings,
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
            adapter("videos").watch_env(self, env)

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
        **settings: Any,
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
            **settings: As in the constructor, without `parent` and `ranks`.

        Raises:
            SettingsError: A setting is wrong, or this logger was made in another process.
        """
        if self._sinks is None:
            raise SettingsError(
                "child: this logger was made in another process: make an ExperimentLogger here, with "
                f"rl_logging.parent: {self._path}"
            )
        keywords = {
            **settings,
            **{"name": name, "tags": tags, "notes": notes, "id": id, "resume": resume, "quiet": quiet},
        }
        kind = type(self)
        logger = kind.__new__(kind)
        logger._begin(children.below(self.settings, self._sinks, self._path, config, keywords), env)
        return logger

    def log_config(self, config: object) -> None:
        """Adds to the run's configuration, key by key; a later value of a key wins.

        Args:
            config: What the constructor takes as `config`.
        """
        self._guarded("log_config", self._log_config, config)

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

    def set_tags(self, *tags: str | Iterable[str]) -> None:
        """Replaces the run's tags."""
        self._guarded("set_tags", self._set_tags, tags)

    def set_notes(self, notes: str) -> None:
        """Replaces the run's notes."""
        self._guarded("set_notes", self._append, Labels.kind, None, {"tags": None, "notes": str(notes)})

    def _log_first(self, loaded: Loaded, env: object) -> None:
        if loaded.config:
            self._guarded("config", self._log_config, loaded.config)
        described = env_info.describe(env)
        if described:
            found = self._config.found({"env": described, "num_envs": described["num_envs"]})
            self._guarded("config", self._log_config, found)  # the env given here counts as the user's word

    def _log_config(self, config: object) -> None:
        self._append(Config.kind, None, self._config.given(config))

    def _set_tags(self, tags: tuple[str | Iterable[str], ...]) -> None:
        flat: list[str] = []
        for tag in tags:
            flat.extend([tag] if isinstance(tag, str) else map(str, tag))
        self._append(Labels.kind, None, {"tags": flat, "notes": None})

    def _watch_videos(self, folder: str | Path, name: str | None) -> None:
        VideoWatch.of(self).add(folder, name, poll=True)
