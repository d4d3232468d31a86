"""Several trainings at once on one machine, each with its delivery process: what a scalar costs, and the memory.

``python -m tests.benchmarks.machine FOLDER PER_CALL`` is one of those trainings: it logs to MLflow (SQLite) and W&B
(offline), so many scalars a call, waits until both have everything, and prints what its delivery process took.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from rl_logging import ExperimentLogger
from tests.benchmarks import runs, stores
from tests.benchmarks.rows import Row

RUNS = (1, 2, 4, 8)
RUNS_IN_WORDS = f"{', '.join(map(str, RUNS))} runs at once"
PER_CALL = (1, 10, 100, 1000)
SCALARS = 20_000
MOST_RISE = 1.5
TIMEOUT_S = 300


def rows(arguments: Sequence[str]) -> list[Row]:
    argparse.ArgumentParser(prog="python -m tests.benchmarks machine").parse_args(arguments)
    found = {per_call: {count: together(count, per_call) for count in RUNS} for per_call in PER_CALL}
    memory_mb = {
        per_call: {count: sum(one["memory_mb"] for one in some) for count, some in by_count.items()}
        for per_call, by_count in found.items()
    }
    most_mb = [max(by_count[count] for by_count in memory_mb.values()) for count in RUNS]
    return [
        *(cost_row(per_call, by_count) for per_call, by_count in found.items()),
        Row(
            name=f"memory of the delivery processes of {RUNS_IN_WORDS}, wandb-core included, at the most",
            beside="one run",
            figure=", ".join(f"{mb:.0f} MB" for mb in most_mb),
            details={"memory_mb": memory_mb},
        ),
    ]


def cost_row(per_call: int, found: dict[int, list[dict[str, Any]]]) -> Row:
    cost_us = {count: sum(one["cpu_s"] for one in some) / count / SCALARS * 1e6 for count, some in found.items()}
    return Row(
        name=f"{RUNS_IN_WORDS}, {per_call} a call, to MLflow and W&B: delivery's CPU µs a scalar",
        beside="one run",
        goal=f"≤ {MOST_RISE} of one's",
        figure=", ".join(f"{us:.0f}" for us in cost_us.values()),
        reached=max(cost_us.values()) <= MOST_RISE * cost_us[1],
        details={
            "cpu_us": cost_us,
            "start_cpu_s": {n: [one["start_cpu_s"] for one in some] for n, some in found.items()},
        },
    )


def together(count: int, per_call: int) -> list[dict[str, Any]]:
    """Runs so many trainings at once; returns what each has printed."""
    with tempfile.TemporaryDirectory() as folder:
        trainings = []
        for number in range(count):
            place = Path(folder, str(number))
            place.mkdir()
            command = [sys.executable, "-m", "tests.benchmarks.machine", str(place), str(per_call)]
            trainings.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        printed = [training.communicate(timeout=TIMEOUT_S)[0] for training in trainings]
    return [json.loads(text.splitlines()[-1]) for text in printed]


def train(folder: Path, per_call: int) -> dict[str, float]:
    """Logs one run, and returns what its delivery took until both stores had everything."""
    with ExperimentLogger(stores.both(folder), dir=folder, quiet=True) as logger:
        logger.log_metrics(runs.values(per_call, 0), step=0)
        logger.flush(TIMEOUT_S)
        start_cpu_s, _ = delivery()
        for step in range(1, SCALARS // per_call):
            logger.log_metrics(runs.values(per_call, step), step=step)
        logger.flush(TIMEOUT_S)
        cpu_s, memory_mb = delivery()
    return {"cpu_s": cpu_s - start_cpu_s, "start_cpu_s": start_cpu_s, "memory_mb": memory_mb}


def delivery() -> tuple[float, float]:
    """Returns CPU seconds and memory in MB of this process's delivery process and of what that has started.

    Memory is the proportional set size: what several processes share counts once.
    """
    cpu_s = memory = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            cpu_s += times.user + times.system
            memory += process.memory_full_info().pss
    return cpu_s, memory / 1e6


if __name__ == "__main__":
    stores.quieten()
    print(json.dumps(train(Path(sys.argv[1]), int(sys.argv[2]))))
