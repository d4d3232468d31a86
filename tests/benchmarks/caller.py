"""What one call with 20 scalars costs the caller's thread, beside other loggers, in one run.

Each subject logs the same 20 Python floats at rising steps; the subjects take turns in rounds. Times are of the
caller's thread alone: what a delivery process, W&B's service or MLflow's own threads do beside it, is in nobody's.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks import stores
from tests.benchmarks.rows import Row
from tests.benchmarks.turns import Call, measure, summarise

VALUES = {f"train/metric_{index}": index * 0.5 for index in range(20)}

OURS = "rl_logging"
BARE = "a bare os.write of the same bytes"
WANDB = "wandb.log, offline"
TRACKIO = "trackio"

WRITE_GOAL = 5.0
WANDB_GOAL = 15.0
TAIL_GOAL = 10.0


def rows(arguments: Sequence[str]) -> list[Row]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks caller")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=50, help="calls of each subject in a round")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        os.chdir(folder)
        subjects = {name: make(Path(folder), stack) for name, make in SUBJECTS.items()}
        figures = {name: summarise(series) for name, series in measure(subjects, options.rounds, options.calls).items()}
        os.chdir("/")
    ours = figures.pop(OURS)
    ratio = ours["median_us"] / figures[BARE]["median_us"]
    tail = ours["p99_us"] / ours["median_us"]
    found = [
        Row(
            name="log_metrics of 20 floats, median",
            beside=f"{BARE}: {figures[BARE]['median_us']:.1f} µs",
            goal=f"≤ {WRITE_GOAL:g}×",
            figure=f"{ratio:.1f}× ({ours['median_us']:.1f} µs)",
            reached=ratio <= WRITE_GOAL,
            details={**ours, "bare_write_median_us": figures.pop(BARE)["median_us"]},
        ),
        Row(
            name="the same, 99 %",
            beside="its median",
            goal=f"≤ {TAIL_GOAL:g}×",
            figure=f"{tail:.1f}× ({ours['p99_us']:.1f} µs)",
            reached=tail <= TAIL_GOAL,
        ),
    ]
    for name, theirs in figures.items():
        faster = theirs["median_us"] / ours["median_us"]
        found.append(
            Row(
                name="the same, median",
                beside=f"{name}: {theirs['median_us']:.1f} µs",
                goal=f"≥ {WANDB_GOAL:g}× faster" if name == WANDB else "",
                figure=f"{faster:.0f}× faster",
                reached=faster >= WANDB_GOAL if name == WANDB else None,
                details=theirs,
            )
        )
    if TRACKIO not in figures:
        found.append(Row(name="the same, median", beside=TRACKIO, figure="not installed here, so not measured"))
    return found


def rl_logging(folder: Path, stack: ExitStack) -> Call:
    from rl_logging import ExperimentLogger

    logger = stack.enter_context(ExperimentLogger(stores.both(folder), dir=folder / "runs", quiet=True))
    assert not {"mlflow", "wandb"} & set(sys.modules)
    return lambda step: logger.log_metrics(VALUES, step=step)


def our_summary_writer(folder: Path, stack: ExitStack) -> Call:
    from rl_logging import ExperimentLogger

    logger = stack.enter_context(ExperimentLogger(dir=folder / "more_runs", delivery="offline", quiet=True))
    writer = logger.summary_writer()

    def log(step: int) -> None:
        for name, value in VALUES.items():
            writer.add_scalar(name, value, step)

    return log


def bare_write(folder: Path, stack: ExitStack) -> Call:
    from rl_logging.records import encode

    data = b"\0" * 8 + encode(1, time.time(), 1, "metrics", VALUES)
    fd = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stack.callback(os.close, fd)
    return lambda step: os.write(fd, data)


def wandb_log(folder: Path, stack: ExitStack) -> Call:
    os.environ.update(WANDB_SILENT="true", WANDB_DIR=str(folder), WANDB_CONSOLE="off")
    import wandb

    run = stack.enter_context(wandb.init(mode="offline", project="bench", dir=str(folder)))
    return lambda step: run.log(VALUES, step=step)


def trackio_log(folder: Path, stack: ExitStack) -> Call:
    os.environ["TRACKIO_DIR"] = str(folder / "trackio")
    import trackio

    with contextlib.redirect_stdout(io.StringIO()):
        run = trackio.init(project="bench", auto_log_cpu=False, auto_log_gpu=False)
    stack.callback(run.finish)
    return lambda step: run.log(VALUES, step=step)


def summary_writer(folder: Path, stack: ExitStack) -> Call:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))
    stack.callback(writer.close)

    def log(step: int) -> None:
        for name, value in VALUES.items():
            writer.add_scalar(name, value, step)

    return log


def sb3_logger(folder: Path, stack: ExitStack) -> Call:
    from stable_baselines3.common.logger import configure

    logger = configure(str(folder / "sb3"), ["csv"])
    stack.callback(logger.close)

    def log(step: int) -> None:
        for name, value in VALUES.items():
            logger.record(name, value)
        logger.dump(step)

    return log


def mlflow_sqlite(folder: Path, stack: ExitStack) -> Call:
    return _mlflow(f"sqlite:///{folder}/theirs.db")


def mlflow_async(folder: Path, stack: ExitStack) -> Call:
    call = _mlflow(f"sqlite:///{folder}/async.db", synchronous=False)
    import mlflow

    stack.callback(mlflow.flush_async_logging)
    return call


def mlflow_server(folder: Path, stack: ExitStack) -> Call:
    from tests.support.mlflow_server import MlflowServer

    server = MlflowServer(folder / "server")
    server.start()
    stack.callback(server.kill)
    return _mlflow(server.uri)


def _mlflow(uri: str, *, synchronous: bool = True) -> Call:
    import mlflow
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    client = MlflowClient(uri)
    run = client.create_run(client.create_experiment("bench")).info.run_id

    def log(step: int) -> None:
        mlflow.set_tracking_uri(uri)  # a module's variable: it costs nothing beside the call
        mlflow.log_metrics(VALUES, step=step, run_id=run, synchronous=synchronous)

    return log


# Ours first: it shows that the others' SDKs are not imported yet.
SUBJECTS: dict[str, Callable[[Path, ExitStack], Call]] = {
    OURS: rl_logging,
    BARE: bare_write,
    WANDB: wandb_log,
    "mlflow.log_metrics, SQLite": mlflow_sqlite,
    "mlflow.log_metrics, server": mlflow_server,
    "mlflow.log_metrics, SQLite, synchronous=False": mlflow_async,
    "torch's SummaryWriter.add_scalar × 20": summary_writer,
    "rl_logging's add_scalar × 20": our_summary_writer,
    "stable-baselines3's Logger, CSV": sb3_logger,
}
if importlib.util.find_spec(TRACKIO) is not None:
    SUBJECTS[TRACKIO] = trackio_log
