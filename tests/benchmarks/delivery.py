"""How fast a run is delivered, beside the same scalars given to the SDK in a loop, in turns.

Each has a process of its own, as in life: what an SDK keeps for a process is not shared.

The ratio that is judged is of CPU seconds, of every process that had a part: on a machine that is shared it is the one
that says something. Where nothing else runs, that of the clock, shown beside it, is the same.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks import runs, stores
from tests.benchmarks.rows import Row, ratio_row
from tests.benchmarks.runs import Spent
from tests.support.mlflow_server import running_mlflow_server

GOAL = 0.9
MOST_GROWN = 1.25
PER_CALL = (1, 10, 100, 1000)

Subject = Callable[[int, int], Spent]
"""Delivers so many scalars, so many to a call."""


def rows(arguments: Sequence[str]) -> list[Row]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks delivery")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=STORES, help="one store instead of all")
    options = parser.parse_args(arguments)
    stores.quieten()
    found = []
    for store, (begin, beside, scalars) in STORES.items():
        if options.only in (None, store):
            with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
                ours, raw = (apart(subject, stack) for subject in begin(Path(folder), stack))
                found.append(throughput(store, beside, turns(ours, raw, scalars, runs.PER_CALL, options.rounds)))
                if store != SERVER:
                    grown = {n: turns(ours, raw, scalars // 2, n, 2) for n in PER_CALL}
                    found.append(growth(store, beside, grown, scalars // 2))
    return found


Turns = list[tuple[Spent, Spent]]


def turns(ours: Subject, raw: Subject, scalars: int, per_call: int, rounds: int) -> Turns:
    """Returns what each turn took, ours and theirs; a first round, which warms up, is small and not counted."""
    ours(max(1000, per_call), per_call)
    raw(max(1000, per_call), per_call)
    found = []
    for number in range(rounds):
        if number % 2:
            theirs = raw(scalars, per_call)
            found.append((ours(scalars, per_call), theirs))
        else:
            found.append((ours(scalars, per_call), raw(scalars, per_call)))
    return found


def throughput(store: str, beside: str, found: Turns) -> Row:
    cpu = statistics.median(raw.cpu_s / ours.cpu_s for ours, raw in found)
    wall = statistics.median(raw.wall_s / ours.wall_s for ours, raw in found)
    return ratio_row(
        f"delivery into {store}",
        beside=beside,
        goal=GOAL,
        cpu=cpu,
        wall=wall,
        ours_cpu_s=[ours.cpu_s for ours, _ in found],
        raw_cpu_s=[raw.cpu_s for _, raw in found],
        ours_wall_s=[ours.wall_s for ours, _ in found],
        raw_wall_s=[raw.wall_s for _, raw in found],
    )


def growth(store: str, beside: str, found: dict[int, Turns], scalars: int) -> Row:
    """Returns how the cost of a scalar grows with the number of them in a call; the SDK's own grows likewise."""
    ours_us = {n: min(ours.cpu_s for ours, _ in turns) / scalars * 1e6 for n, turns in found.items()}
    raw_us = {n: min(raw.cpu_s for _, raw in turns) / scalars * 1e6 for n, turns in found.items()}
    return Row(
        name=f"{store}: CPU µs a scalar at {', '.join(map(str, PER_CALL))} a call",
        beside=f"{beside}: {', '.join(f'{us:.0f}' for us in raw_us.values())}",
        goal=f"≤ {MOST_GROWN} of the SDK's own at each",
        figure=", ".join(f"{us:.0f}" for us in ours_us.values()),
        reached=all(ours_us[n] <= MOST_GROWN * raw_us[n] for n in PER_CALL),
        details={"ours_us": ours_us, "raw_us": raw_us},
    )


def apart(subject: Subject, stack: ExitStack) -> Subject:
    """Returns a subject that does the same in a process of its own, one for all its turns."""
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=stores.quieten)
    stack.enter_context(pool)
    return lambda scalars, per_call: pool.submit(subject, scalars, per_call).result()


def ours(folder: Path, config: Mapping[str, Any], others: Sequence[int], scalars: int, per_call: int) -> Spent:
    return runs.deliver(runs.offline_run(folder / "runs", config, scalars, per_call), others)


def mlflow_sqlite(folder: Path, stack: ExitStack) -> tuple[Subject, Subject]:
    return (
        partial(ours, folder, stores.mlflow_sqlite(folder), ()),
        partial(runs.raw_mlflow, f"sqlite:///{folder}/raw.db"),
    )


def mlflow_server(folder: Path, stack: ExitStack) -> tuple[Subject, Subject]:
    server = stack.enter_context(running_mlflow_server(folder / "server"))
    pids = [child.pid for child in psutil.Process().children() if "server.db" in " ".join(child.cmdline())]
    config = {"mlflow": {"tracking_uri": server.uri}}
    return partial(ours, folder, config, pids), partial(runs.raw_mlflow, server.uri, others=pids)


def wandb_offline(folder: Path, stack: ExitStack) -> tuple[Subject, Subject]:
    (folder / "raw").mkdir()
    return partial(ours, folder, stores.wandb_offline(folder), ()), partial(runs.raw_wandb, folder / "raw")


SERVER = "MLflow, a server"
LOG_BATCH = "log_batch of 1000"
STORES: dict[str, tuple[Callable[[Path, ExitStack], tuple[Subject, Subject]], str, int]] = {
    "MLflow, SQLite": (mlflow_sqlite, LOG_BATCH, 10_000),
    SERVER: (mlflow_server, LOG_BATCH, 10_000),
    "W&B offline": (wandb_offline, "run.log in a loop", 100_000),
}
