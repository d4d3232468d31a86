"""Driving the W&B sink without the core: a context, a ledger that remembers, and bounded waiting."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import wandb

from rl_logging.records import Metrics, Record
from rl_logging.sinks import Program, Sink, SinkContext
from rl_logging_wandb import rl_logging_make_sink

RUN_ID = "run4test"


@dataclass
class RecordingLedger:
    """Remembers what it is told."""

    names: dict[str, str] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def renamed(self, name: str, stored_as: str) -> None:
        """Remembers it in `names`."""
        self.names[name] = stored_as

    def truncated(self, name: str, detail: str) -> None:
        """Remembers it in `cut`."""
        self.cut[name] = detail

    def merged(self, count: int, detail: str) -> None:
        """Fails: the sink never merges."""
        raise AssertionError((count, detail))

    def warn(self, message: str) -> None:
        """Remembers it in `warnings`."""
        self.warnings.append(message)


@contextlib.contextmanager
def isolated(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """Keeps W&B's folders inside `folder`, has no credentials, and has W&B asked and told without delay."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name in ("CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR"):
            (folder / "wandb-folders" / name).mkdir(parents=True)
            patch.setenv(f"WANDB_{name}", str(folder / "wandb-folders" / name))
        patch.setenv("HOME", str(folder))
        patch.setenv("NETRC", str(folder / "no-netrc"))
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("WANDB_X_DISABLE_STATS", "true")
        patch.setenv("WANDB_X_SAVE_REQUIREMENTS", "false")
        patch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")
        # A server beside us may be asked more often than one that others share.
        patch.setattr("rl_logging_wandb.online_store.POLL_INTERVAL_S", 0.1)
        patch.setattr("rl_logging_wandb.online_store.FAILED_INTERVAL_S", 0.2)
        patch.setattr("rl_logging_wandb.opening.KNOCK_TIMEOUT_S", 2)
        # What an earlier test of this process left set up has that test's environment, its server among it.
        wandb.teardown()
        yield patch


def make_context(run_dir: Path, ledger: RecordingLedger | None = None, **changes: Any) -> SinkContext:
    """Returns a context for a run in `run_dir`."""
    run_dir.mkdir(parents=True, exist_ok=True)
    program = Program(pid=os.getpid(), argv=("train.py", "--lr", "1"), cwd="/home/u", executable=sys.executable)
    values: dict[str, Any] = {
        "run_dir": run_dir,
        "run_id": RUN_ID,
        "name": "a name",
        "project": "a-project",
        "group": "a group",
        "tags": ("one", "two"),
        "notes": "some notes",
        "created": 1_700_000_000.0,
        "program": program,
        "live": True,
        "ledger": ledger or RecordingLedger(),
    }
    return SinkContext(**{**values, **changes})


def make_sink(context: SinkContext, options: Mapping[str, Any]) -> Sink:
    """Returns a sink, not yet opened."""
    return rl_logging_make_sink("wandb", context, options)


def metrics(seq: int, step: int | None = None, **values: float) -> Metrics:
    """Returns a metrics record whose time follows from `seq`."""
    return Metrics(seq=seq, time=1_700_000_000.0 + seq, step=seq * 10 if step is None else step, values=values)


def deliver(
    sink: Sink, records: Sequence[Record], status: Any = "finished", state: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Opens the sink, writes the records, waits until all are confirmed, closes; returns the state."""
    opened = dict(sink.open(state))
    try:
        sink.write(records)
        wait_until(lambda: sink.confirmed() >= records[-1].seq)
    except BaseException:
        sink.close(None)
        raise
    sink.close(status)
    return opened


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Returns once `condition` holds.

    Raises:
        TimeoutError: It did not within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s")
        time.sleep(0.02)


def wandb_core_children() -> list[int]:
    """Returns the ids of this process's wandb-core processes (Linux)."""
    children = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                name = (entry / "comm").read_text().strip()
            except OSError:
                continue
            if name.startswith("wandb-core") and int(fields[1]) == os.getpid() and fields[0] != "Z":
                children.append(int(entry.name))
    return children
