"""What the logger takes besides time in a call: memory over a million calls, and the time until the first one."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.rows import Row

MEMORY_GOAL_MB = 5.0
FIRST_CALL_GOAL_S = 0.2

FIRST_CALL = {
    "rl_logging": """
import sys, time
folder, began = sys.argv[1], time.perf_counter()
from rl_logging import ExperimentLogger
settings = {"mlflow": {"tracking_uri": f"sqlite:///{folder}/mlflow.db"}, "wandb": {"mode": "offline", "dir": folder}}
logger = ExperimentLogger(settings, dir=folder, quiet=True)
logger.log_metrics({"loss": 0.5}, step=1)
heavy = sorted({"mlflow", "wandb", "torch", "numpy"} & set(sys.modules))
print(time.perf_counter() - began, time.process_time(), *heavy)
logger.finish(timeout=0)
""",
    "import wandb, wandb.init offline": """
import sys, time
folder, began = sys.argv[1], time.perf_counter()
import wandb
run = wandb.init(mode="offline", project="bench", dir=folder)
run.log({"loss": 0.5}, step=1)
print(time.perf_counter() - began, time.process_time())
run.finish()
""",
}

MEMORY = """
import gc, sys
from rl_logging import ExperimentLogger
folder, calls = sys.argv[1], int(sys.argv[2])
values = {f"train/metric_{index}": index * 0.5 for index in range(20)}

def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

with ExperimentLogger(dir=folder, delivery="offline", quiet=True) as logger:
    for step in range(10_000):
        logger.log_metrics(values, step=step)
    gc.collect()
    began = resident_mb()
    most = began
    for step in range(10_000, 10_000 + calls):
        logger.log_metrics(values, step=step)
        if step % 10_000 == 0:
            most = max(most, resident_mb())
    print(began, most, resident_mb())
"""


def rows(arguments: Sequence[str]) -> list[Row]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks footprint")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=1_000_000)
    options = parser.parse_args(arguments)
    return [memory_row(options.calls), *first_call_rows(options.rounds)]


def memory_row(calls: int) -> Row:
    began, most, ended = (float(word) for word in run(MEMORY, str(calls))[:3])
    return Row(
        name=f"the trainer's memory over {calls:,} calls",
        beside=f"after the first 10,000: {began:.1f} MB",
        goal=f"≤ {MEMORY_GOAL_MB:g} MB more",
        figure=f"{most - began:.1f} MB more at most",
        reached=most - began <= MEMORY_GOAL_MB,
        details={"began_mb": began, "most_mb": most, "ended_mb": ended},
    )


def first_call_rows(rounds: int) -> list[Row]:
    taken: dict[str, list[list[float]]] = {name: [] for name in FIRST_CALL}
    heavy: set[str] = set()
    for number in range(rounds + 1):
        for name, script in FIRST_CALL.items():
            words = run(script)
            if number:
                taken[name].append([float(word) for word in words[:2]])
            heavy.update(words[2:])
    wall_s, cpu_s = ({name: statistics.median(both[part] for both in taken[name]) for name in taken} for part in (0, 1))
    (ours, theirs) = FIRST_CALL
    return [
        Row(
            name="import rl_logging, and ExperimentLogger(...) until the first call returns",
            beside=f"{theirs}: {wall_s[theirs]:.2f} s",
            goal=f"≤ {FIRST_CALL_GOAL_S:g} s, no SDK, no torch",
            figure=f"{wall_s[ours]:.2f} s ({cpu_s[ours]:.2f} s of CPU, Python's own start with it)",
            reached=wall_s[ours] <= FIRST_CALL_GOAL_S and not heavy & {"mlflow", "wandb", "torch"},
            details={"wall_s": wall_s, "cpu_s": cpu_s, "imported": sorted(heavy)},
        )
    ]


def run(script: str, *arguments: str) -> list[str]:
    """Runs a script in a folder of its own, with Python's compiled files as an installed package has them."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environ |= {"WANDB_SILENT": "true", "PYTHONPATH": os.pathsep.join(sys.path)}
    cache = Path(tempfile.gettempdir(), f"rl_logging-benchmarks-{os.getuid()}")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-X", f"pycache_prefix={cache}", "-c", script, folder, *arguments],
            env=environ,
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    return done.stdout.splitlines()[-1].split()
