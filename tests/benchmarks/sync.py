"""``rl-logging sync`` of a million scalars, beside the SDK's own loop: speed, and memory from beginning to end."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import states
from tests.benchmarks import runs, stores
from tests.benchmarks.rows import Row, ratio_row
from tests.benchmarks.runs import Spent
from tests.support import memory

GOAL = 0.85
MOST_MB = 300
FLAT_MB = 30
LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class Synced:
    """One ``rl-logging sync``: what it took, and its memory in MB by scalars delivered, without wandb-core's."""

    spent: Spent
    peak_mb: float
    core_peak_mb: float
    history: list[tuple[int, float]]


def rows(arguments: Sequence[str]) -> list[Row]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks sync")
    parser.add_argument("--scalars", type=int, default=1_000_000)
    options = parser.parse_args(arguments)
    stores.quieten()
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = runs.offline_run(folder / "runs", stores.both(folder), options.scalars)
        (folder / "raw").mkdir()
        raw: dict[str, Callable[[int], Spent]] = {
            "mlflow": lambda scalars: runs.raw_mlflow(f"sqlite:///{folder}/raw.db", scalars),
            "wandb": lambda scalars: runs.raw_wandb(folder / "raw", scalars),
        }
        for store, deliver in raw.items():
            deliver(1000)  # warms up
            # The SDK's own loop is measured over a fifth of it, before and after.
            part = options.scalars // 10
            before = deliver(part)
            synced = sync(bundle, store)
            after = deliver(part)
            found += as_rows(store, options.scalars, synced, before, after, part)
    return found


def as_rows(store: str, scalars: int, synced: Synced, before: Spent, after: Spent, part: int) -> list[Row]:
    cpu = (before.cpu_s + after.cpu_s) / (2 * part) / (synced.spent.cpu_s / scalars)
    wall = (before.wall_s + after.wall_s) / (2 * part) / (synced.spent.wall_s / scalars)
    a_second = scalars / synced.spent.wall_s
    beside = "MLflow, SQLite: log_batch of 1000" if store == "mlflow" else "W&B offline: run.log in a loop"
    early = next((mb for delivered, mb in synced.history if delivered >= scalars // 5), 0.0)
    rise_mb = synced.peak_mb - early
    return [
        ratio_row(
            f"sync of {scalars:,} scalars to {store}, the command's start and end included",
            beside=beside,
            goal=GOAL,
            cpu=cpu,
            wall=wall,
            more=f" ({a_second:,.0f} a second)",
            ours=vars(synced.spent),
            raw=[vars(before), vars(after)],
            raw_scalars=part,
        ),
        Row(
            name="its memory at the most, and its rise over the last four fifths",
            goal=f"≤ {MOST_MB} MB, ≤ {FLAT_MB} MB",
            figure=f"{synced.peak_mb:.0f} MB, {rise_mb:.0f} MB (wandb-core {synced.core_peak_mb:.0f} MB)",
            reached=synced.peak_mb <= MOST_MB and rise_mb <= FLAT_MB,
            details={
                "peak_mb": synced.peak_mb,
                "core_peak_mb": synced.core_peak_mb,
                "memory": synced.history,
                "store": store,
            },
        ),
    ]


def sync(bundle: Bundle, store: str) -> Synced:
    """Runs ``rl-logging sync --to store`` and looks at it while it works.

    Raises:
        RuntimeError: It did not end well.
    """
    began, cpu_s = time.perf_counter(), children_cpu_s()
    command = [sys.executable, "-m", "rl_logging", "sync", str(bundle.path), "--to", store]
    log = bundle.path.parent / f"sync-{store}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    watched = psutil.Process(process.pid)
    history: list[tuple[int, float]] = []
    peak_mb = core_mb = 0.0
    while True:
        try:
            process.wait(LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            peak_mb = max(peak_mb, memory.own_mb(process.pid))
            for child in watched.children(recursive=True):
                core_mb = max(core_mb, memory.own_mb(child.pid))
            ((_, state, _),) = (kept for kept in states(bundle).values() if kept[0].name == store)
            history.append((state.confirmed * runs.PER_CALL, memory.own_mb(process.pid)))
        else:
            break
    if process.returncode:
        raise RuntimeError(
            f"sync to {store} ended with {process.returncode}: {log.read_text(errors='replace')[-2000:]}"
        )
    spent = Spent(time.perf_counter() - began, children_cpu_s() - cpu_s)
    return Synced(spent, peak_mb, core_mb, history)


def children_cpu_s() -> float:
    """Returns the CPU seconds of this process's children that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
