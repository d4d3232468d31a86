"""Which checkpoint a result came with, and a copy of one that is not on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pyarrow.fs
from ray.train import Checkpoint

_FOLDER: Final = "checkpoint_dir_name"


def reported(trial: Any, result: Mapping[str, Any]) -> Checkpoint | None:
    """Returns the checkpoint that a trial's function gave with a result; None where it gave none.

    It is in the trial's folder before Tune has the result. Tune itself takes note of it some time after, and of none
    whose trial the scheduler has put aside by then, as PBT does with one that is to go on from another's checkpoint.
    """
    name = result.get(_FOLDER)
    return Checkpoint(f"{trial.path}/{name}", trial.storage.storage_filesystem) if name else None


def came_with_a_result(metrics: Mapping[str, Any]) -> bool:
    """Says whether a checkpoint's metrics are those of a function's result; if not, a trainable class has saved it."""
    return _FOLDER in metrics


def fetch(checkpoint: Checkpoint, folder: str) -> str:
    """Copies a checkpoint's files into `folder`.

    Returns:
        Where they are.

    Raises:
        RuntimeError: They changed meanwhile: a trial that PBT has put aside writes its next checkpoint over its last.
    """
    before = _listed(checkpoint)
    copied = str(checkpoint.to_directory(folder))
    if _listed(checkpoint) != before:
        raise RuntimeError(f"{checkpoint.path} was written over while it was copied: it is not logged")
    return copied


def _listed(checkpoint: Checkpoint) -> set[tuple[str, int | None, int | None]]:
    """Returns each file's path, size in bytes, and when it was written, in ns."""
    found = checkpoint.filesystem.get_file_info(pyarrow.fs.FileSelector(checkpoint.path, recursive=True))
    return {(file.path, file.size, file.mtime_ns) for file in found if file.is_file}
