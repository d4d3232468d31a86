"""Handing records over to an open W&B run, each in the form that W&B shows best."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import wandb

from rl_logging.records import Artifact, Config, Environment, Image, Labels, Metrics, Model, Record, Video
from rl_logging.sinks import SinkContext
from rl_logging_wandb import artifacts, registry, sdk, values
from rl_logging_wandb.rows import Row
from rl_logging_wandb.stores import Check, Store


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
        self._offline = options.get("mode") == "offline"
        self._config: dict[str, Any] = {}
        self._tags: tuple[str, ...] | None = None
        self._notes: str | None = None

    def has_row(self, record: Record) -> bool:
        """Says whether W&B has the row of `record`: rows are stored in order, under their last record's `seq`."""
        return self._store.last_step >= self._base + record.seq

    def hand_over(self, part: Record | Row) -> Check:
        """Gives a record, or several as a row, to W&B, unless it has it already.

        Returns:
            A function that says whether W&B has it.

        Raises:
            FileNotFoundError: What the record points to is gone.
            ValueError: W&B does not take it.
        """
        if isinstance(part, Row):
            return self._log_row(part.last, part.values)
        if isinstance(part, Metrics):
            return self._log_row(part, values.row(part.values, part.step, self._context.ledger))
        if isinstance(part, (Image, Video)):
            return self._log_media(part)
        if isinstance(part, Config):
            return self._update_config(part)
        if isinstance(part, (Model, Artifact)):
            return self._log_artifact(part)
        if isinstance(part, Environment):
            return self._log_environment(part)
        if isinstance(part, Labels):
            return self._set_labels(part)
        raise ValueError(f"W&B has no place for a record of kind '{part.kind}'")

    def _log_row(self, record: Record, row: Mapping[str, Any]) -> Check:
        step = self._base + record.seq
        if self._store.last_step < step:
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
        row = values.row({record.name: media}, record.step, self._context.ledger)
        key = next(iter(row))
        # Bound here, the file's name follows from the step: a repair uploads to the name that the stored row gives.
        stored = sdk.bind(media, self._run, key, self._base + record.seq, self._context.ledger.warn)
        row_is_there = self._log_row(record, row)
        if stored is None:
            return row_is_there
        file_is_there = self._file(stored)
        return lambda: row_is_there() and file_is_there()

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
        ledger = self._context.ledger
        aliases = artifacts.aliases_of(record, ledger)
        link = None
        if isinstance(record, Model):
            link = registry.link_of(record, aliases, offline=self._offline, ledger=ledger)
        return self._store.artifact(
            lambda: artifacts.make(record, self._context.run_dir, self._run.id, ledger),
            lambda artifact: self._run.log_artifact(artifact, aliases=aliases),
            link,
        )

    def _log_environment(self, record: Environment) -> Check:
        folder = Path(self._run.dir)
        files = []
        for relative in (record.path, record.patch):
            if relative is not None:
                files.append(folder / Path(relative).name)
                shutil.copyfile(self._context.run_dir / relative, files[-1])
        files.append(folder / "wandb-metadata.json")
        files[-1].write_text(json.dumps(self._metadata(record.facts), indent=2), encoding="utf-8")
        for file in files:
            if not self._store.has_file(file.name, file.stat().st_size):
                self._save(file)
        if "git_commit" in record.facts:
            commit, remote = record.facts["git_commit"], record.facts.get("git_remote")
            sdk.set_commit(self._run, commit, remote, self._context.ledger.warn)
        checks = [self._file(file) for file in files]
        return lambda: all(check() for check in checks)

    def _file(self, file: Path) -> Check:
        name = file.relative_to(self._run.dir).as_posix()
        return self._store.file(file, name, lambda: self._save(file))

    def _save(self, file: Path) -> None:
        self._run.save(str(file), base_path=self._run.dir, policy="now")

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
