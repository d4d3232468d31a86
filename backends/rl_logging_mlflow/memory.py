"""What the sink must remember across a crash that MLflow itself cannot tell it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec


class Kept(msgspec.Struct, kw_only=True):
    """The file's contents.

    Attributes:
        metrics: Stored names of metrics by name, where they differ.
        params: Stored names of params by name, where they differ.
        images: Keys of images by name, where they differ.
        files: Folder names of videos, models and artifacts by name, where they differ.
        paths: Which record (its `seq`) owns each artifact path that two records could want.
        config_seq: The last config record that the store has whole.
        config: All config records up to it, merged.
    """

    metrics: dict[str, str] = {}
    params: dict[str, str] = {}
    images: dict[str, str] = {}
    files: dict[str, str] = {}
    paths: dict[str, int] = {}
    config_seq: int = 0
    config: dict[str, Any] = {}


class Memory:
    """The file, one a remote run, in the run directory.

    Args:
        folder: ``sinks`` of the run directory.
        run_id: The MLflow run.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        self._path = folder / "mlflow" / f"{run_id}.json"
        self.kept = Kept()
        if self._path.exists():
            self.kept = msgspec.convert(json.loads(self._path.read_text(encoding="utf-8")), Kept)

    def save(self) -> None:
        """Replaces the file; a crash leaves the old or the new one."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            # The standard library's JSON keeps the NaN that a configuration may hold.
            json.dump(msgspec.to_builtins(self.kept), file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)

    def claim(self, stem: str, suffix: str, seq: int) -> str:
        """Returns the artifact path for record `seq`: ``stem + suffix``, with the `seq` between if another has it."""
        for path in (f"{stem}{suffix}", f"{stem}-{seq}{suffix}"):
            owner = self.kept.paths.get(path)
            if owner == seq:
                return path
            if owner is None:
                break
        self.kept.paths[path] = seq
        self.save()
        return path
