"""What the callback for Ray Tune reads of Tune's trials, and what is then in their runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from pyarrow.fs import FileSystem, LocalFileSystem

from rl_logging.adapters.ray_tune import ExperimentLoggerCallback
from rl_logging.bundle import Bundle, find
from rl_logging.journal import JournalReader
from rl_logging.records import Record, decode

TUNES: dict[str, Any] = {
    "training_iteration": 2,
    "time_total_s": 12.5,
    "pid": 4711,
    "hostname": "node",
    "node_ip": "10.0.0.1",
    "done": False,
    "date": "2026-01-01_00-00-00",
    "timestamp": 1700000000,
    "trial_id": "abc_0",
    "experiment_tag": "0_lr=1",
    "config": {"lr": 1, "gamma": 0.9},
}


class Trial:
    """What the callback reads of Tune's trials."""

    experiment_dir_name = "pbt_ppo"

    def __init__(self, trial_id: str, config: Any, folder: Path | None = None) -> None:
        self.trial_id = trial_id
        self.config = config
        self.status = "RUNNING"
        self.latest_checkpoint_result: Any = None
        self.local_path = None if folder is None else str(folder)
        self.path = self.local_path
        self.storage = Storage(LocalFileSystem())

    def __str__(self) -> str:
        return f"train_{self.trial_id}"


class Storage(msgspec.Struct):
    storage_filesystem: FileSystem


class Saved(msgspec.Struct):
    checkpoint: Any
    metrics: dict[str, Any]


class Checkpoint(msgspec.Struct):
    path: str


def make(tmp_path: Path, config: Any = None, **keywords: Any) -> ExperimentLoggerCallback:
    given = {"dir": tmp_path / "runs", "delivery": "offline", "sinks": [], "quiet": True, **keywords}
    callback = ExperimentLoggerCallback(config, **given)
    callback.setup(total_num_samples=4, stop={"training_iteration": 3})
    return callback


def records(tmp_path: Path, name: str, kind: type[Record]) -> list[Any]:
    (bundle,) = [it for path in find(tmp_path / "runs") if (it := Bundle(path)).manifest.name == name]
    decoded = map(decode, JournalReader(bundle.journal).read(1000, final=True))
    return [record for record in decoded if isinstance(record, kind)]
