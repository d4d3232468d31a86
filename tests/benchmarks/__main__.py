"""What one call with 20 scalars costs the caller's thread, beside other loggers, in one run.

Run it as ``python -m tests.benchmarks`` (or ``make bench``); ``python -m tests.benchmarks adapters`` is another
benchmark, see `tests.benchmarks.adapters`. Prints a table and writes JSON with ``--json FILE``.
Each subject logs the same 20 Python floats at rising steps; the subjects take turns in rounds, so that a slow spell of
the machine hits all of them. Times are of the caller's thread alone; ratios are to ``rl_logging``'s median.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

VALUES = {f"train/metric_{index}": index * 0.5 for index in range(20)}
Log = Callable[[int], object]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=50, help="calls of each subject in a round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        os.chdir(folder)
        subjects = {name: make(Path(folder), stack) for name, make in SUBJECTS.items()}
        times = measure(subjects, options.rounds, options.calls)
    figures = {name: summarise(series) for name, series in times.items()}
    show(figures)
    if options.json:
        machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "system": platform.platform()}
        options.json.write_text(json.dumps({"machine": machine, "log_20_scalars": figures}, indent=2) + "\n")
    return 0


def measure(subjects: dict[str, Log], rounds: int, calls: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in subjects}
    step = 0
    for _ in range(rounds):
        for name, log in subjects.items():
            for _ in range(calls):
                step += 1
                begin = time.perf_counter()
                log(step)
                times[name].append(time.perf_counter() - begin)
    return times


def summarise(series: list[float]) -> dict[str, float]:
    ordered = sorted(series)
    return {
        "median_us": statistics.median(ordered) * 1e6,
        "p99_us": ordered[int(len(ordered) * 0.99)] * 1e6,
        "calls": len(ordered),
    }


def show(figures: dict[str, dict[str, float]]) -> None:
    base = figures["rl_logging"]["median_us"]
    table = Table("20 scalars a call", "median µs", "99 % µs", "ratio of medians", title="cost in the caller's thread")
    for name, row in figures.items():
        table.add_row(name, f"{row['median_us']:.1f}", f"{row['p99_us']:.1f}", f"{row['median_us'] / base:.1f}")
    Console().print(table)


def rl_logging(folder: Path, stack: ExitStack) -> Log:
    from rl_logging import ExperimentLogger

    config = {
        "mlflow": {"tracking_uri": f"sqlite:///{folder}/ours.db"},
        "wandb": {"mode": "offline", "dir": str(folder)},
    }
    logger = stack.enter_context(ExperimentLogger(config, dir=folder / "runs", quiet=True))
    assert not {"mlflow", "wandb"} & set(sys.modules)
    return lambda step: logger.log_metrics(VALUES, step=step)


def our_summary_writer(folder: Path, stack: ExitStack) -> Log:
    from rl_logging import ExperimentLogger

    logger = stack.enter_context(ExperimentLogger(dir=folder / "runs", delivery="offline", quiet=True))
    writer = logger.summary_writer()

    def log(step: int) -> None:
        for name, value in VALUES.items():
            writer.add_scalar(name, value, step)

    return log


def bare_write(folder: Path, stack: ExitStack) -> Log:
    from rl_logging.records import encode

    data = encode(1, time.time(), 1, "metrics", VALUES)
    fd = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stack.callback(os.close, fd)
    return lambda step: os.write(fd, data)


def wandb_log(folder: Path, stack: ExitStack) -> Log:
    os.environ.update(WANDB_SILENT="true", WANDB_DIR=str(folder), WANDB_CONSOLE="off")
    import wandb

    run = stack.enter_context(wandb.init(mode="offline", project="bench", dir=str(folder)))
    return lambda step: run.log(VALUES, step=step)


def summary_writer(folder: Path, stack: ExitStack) -> Log:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))
    stack.callback(writer.close)

    def log(step: int) -> None:
        for name, value in VALUES.items():
            writer.add_scalar(name, value, step)

    return log


def mlflow_log_metrics(folder: Path, stack: ExitStack) -> Log:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/theirs.db")
    mlflow.set_experiment("bench")
    stack.enter_context(mlflow.start_run())
    return lambda step: mlflow.log_metrics(VALUES, step=step)


# Ours first: it shows that the others' SDKs are not imported yet.
SUBJECTS: dict[str, Callable[[Path, ExitStack], Log]] = {
    "rl_logging": rl_logging,
    "os.write of the same bytes": bare_write,
    "wandb.log (offline)": wandb_log,
    "SummaryWriter.add_scalar × 20": summary_writer,
    "rl_logging's add_scalar × 20": our_summary_writer,
    "mlflow.log_metrics (SQLite)": mlflow_log_metrics,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["adapters"]:
        from tests.benchmarks import adapters

        sys.exit(adapters.main(sys.argv[2:]))
    sys.exit(main())
