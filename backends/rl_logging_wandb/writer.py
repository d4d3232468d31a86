"""Handing records over to an open W&B run, each in the form that W&B shows best."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import wandb

from rl_logging.records import Artifact, Config, Environment, Image, Labels, Metrics, Model, Record, Video
from rl_logging.sinks import SinkContext
from rl_logging_wandb import artifacts, values
from rl_logging_wandb.stores import Store

Check = Callable[[], bool]


class RunWriter:
    """Hands records to one open run and knows for each how to find out whether W&B has it.

    Args:
        run: The open run.
        store: What W&B has of it.
        context: The run, as the core knows it.
        options: Resolved options.
        base: A record's row is stored as ``_step`` ``base + seq``.
    """

    def __init__(
        self, run: wandb.Run, store: Store, context: SinkContext, options: Mapping[str, Any], base: int
    ) -> None:
        self._run = run
        self._store = store
        self._context = context
        self._base = base
        self._include = options.get("config_include_keys")
        self._exclude = options.get("config_exclude_keys") or ()
        self._config: dict[str, Any] = {}
        self._tags: tuple[str, ...] | None = None
        self._notes: str | None = None

    def hand_over(self, record: Record) -> Check:
        """Gives `record` to W&B, unless it has it already.

        Returns:
            A function that says whether W&B has it.

        Raises:
            FileNotFoundError: What the record points to is gone.
            ValueError: W&B does not take it.
        """
        if isinstance(record, Metrics):
            return self._log_row(record, record.values)
        if isinstance(record, (Image, Video)):
            return self._log_media(record)
        if isinstance(record, Config):
            return self._update_config(record)
        if isinstance(record, (Model, Artifact)):
            return self._log_artifact(record)
        if isinstance(record, Environment):
            return self._log_environment(record)
        if isinstance(record, Labels):
            return self._set_labels(record)
        raise ValueError(f"W&B has no place for a record of kind '{record.kind}'")

    def _log_row(self, record: Record, given: Mapping[str, Any]) -> Check:
        step = self._base + record.seq
        if self._store.last_step < step:
            row = values.row(given, record.step, self._context.ledger)
            # Without `commit` a row would be written only when the next one comes.
            self._run.log({**row, "_timestamp": record.time}, step=step, commit=True)
        return lambda: self._store.last_step >= step

    def _log_media(self, record: Image | Video) -> Check:
        from rl_logging.media import materialize

        path = materialize(self._context.run_dir, record)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is gone")
        media: Any
        if isinstance(record, Image):
            media = wandb.Image(str(path), caption=record.caption)
        else:
            media = wandb.Video(str(path), format=path.suffix[1:], caption=record.caption)
        key = next(iter(values.row({record.name: media}, None, self._context.ledger)))
        step = self._base + record.seq
        # Bound here, the file's name follows from the step: a repair uploads to the name that the stored row gives.
        media.bind_to_run(self._run, key, step)
        stored = Path(media._path)
        name, size = stored.relative_to(self._run.dir).as_posix(), stored.stat().st_size
        row_is_there = self._log_row(record, {key: media})
        self._store.has_file(name, size)  # so that it is asked for from the first time on
        return lambda: row_is_there() and self._store.has_file(name, size)

    def _update_config(self, record: Config) -> Check:
        given = {
            key: value
            for key, value in values.config(record.values, self._context.ledger).items()
            if (self._include is None or key in self._include) and key not in self._exclude
        }
        for key, value in given.items():
            old = self._config.get(key, self._store.config.get(key))
            self._config[key] = values.merged(old, value)
        if not self._config_is_there(given):
            self._run.config.update({key: self._config[key] for key in given}, allow_val_change=True)
        # A later record may change a value before this one was looked for: what counts is the latest.
        return lambda: self._config_is_there(given)

    def _config_is_there(self, keys: Mapping[str, Any]) -> bool:
        absent = object()
        return all(self._store.config.get(key, absent) == self._config[key] for key in keys)

    def _log_artifact(self, record: Model | Artifact) -> Check:
        artifact = artifacts.make(record, self._context.run_dir, self._run.id, self._context.ledger)
        if self._store.has_artifact(artifact):
            return lambda: True
        logged = self._run.log_artifact(artifact, aliases=artifacts.aliases_of(record, self._context.ledger))
        return lambda: self._store.has_artifact(logged)

    def _log_environment(self, record: Environment) -> Check:
        folder = Path(self._run.dir)
        sizes = {}
        for relative in (record.path, record.patch):
            if relative is not None:
                target = folder / Path(relative).name
                shutil.copyfile(self._context.run_dir / relative, target)
                sizes[target.name] = target.stat().st_size
        metadata = folder / "wandb-metadata.json"
        metadata.write_text(json.dumps(self._metadata(record.facts), indent=2), encoding="utf-8")
        sizes[metadata.name] = metadata.stat().st_size
        missing = [name for name, size in sizes.items() if not self._store.has_file(name, size)]
        for name in missing:
            self._run.save(str(folder / name), base_path=str(folder), policy="now")
        self._set_commit(record.facts)
        return lambda: all(self._store.has_file(name, size) for name, size in sizes.items())

    def _metadata(self, facts: Mapping[str, str]) -> dict[str, Any]:
        """Returns what W&B's overview shows of a program, as its own client would say it in the training process."""
        program = self._context.program
        started = datetime.fromtimestamp(self._context.created, timezone.utc)
        metadata: dict[str, Any] = {
            "startedAt": started.isoformat(),
            "args": list(program.argv[1:]),
            "program": facts.get("source") or program.main,
            "python": facts.get("python"),
            "host": facts.get("host"),
            "username": facts.get("user"),
            "executable": program.executable,
            "root": program.cwd,
            "git": {"remote": facts.get("git_remote"), "commit": facts.get("git_commit")},
        }
        if self._context.live:
            metadata |= {"os": platform.platform(), "cpu_count_logical": os.cpu_count()}
        return {key: value for key, value in metadata.items() if value}

    def _set_commit(self, facts: Mapping[str, str]) -> None:
        if "git_commit" not in facts:
            return
        # A run's commit comes from its settings, which the SDK fills in at the start from its own directory; setting
        # the tags to what they are sends the run's fields again. The public `settings` is a copy.
        self._run._settings.git_commit = facts["git_commit"]
        self._run._settings.git_remote_url = facts.get("git_remote")
        self._run.tags = tuple(self._run.tags or ())

    def _set_labels(self, record: Labels) -> Check:
        if record.tags is not None:
            self._tags = values.tags(record.tags, self._context.ledger)
            if self._store.tags != self._tags:
                self._run.tags = self._tags
        if record.notes is not None:
            self._notes = record.notes
            if self._store.notes != self._notes:
                self._run.notes = self._notes
        with_tags, with_notes = record.tags is not None, record.notes is not None
        return lambda: (
            (not with_tags or set(self._store.tags) == set(self._tags or ()))
            and (not with_notes or (self._store.notes or "") == self._notes)
        )


def kinds() -> frozenset[type[Record]]:
    """Returns the kinds of records that `RunWriter` takes."""
    return frozenset({Metrics, Config, Image, Video, Model, Artifact, Environment, Labels})
