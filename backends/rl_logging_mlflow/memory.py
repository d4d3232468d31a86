"""What the sink must remember across a crash that MLflow itself cannot tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from rl_logging.sinks import Ledger
from rl_logging_mlflow import kept_file


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
        ledger: Is told where the file is damaged.
    """

    def __init__(self, folder: Path, run_id: str, ledger: Ledger) -> None:
        self._path = folder / "mlflow" / f"{run_id}.json"
        self.kept = kept_file.load(self._path, Kept, ledger) or Kept()

    def save(self) -> None:
        """Replaces the file; a crash leaves the old or the new one."""
        kept_file.save(self._path, self.kept)

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
