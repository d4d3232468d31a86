"""What logging costs a whole training: SB3 PPO on CartPole, 20 scalars every 10 steps, to MLflow and W&B at once.

Each way is the same training, anew and with the same seed; its figure is the time on the clock of ``learn()``, while
whoever delivers does so beside it. The ways take turns, each round in the other order.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import gymnasium
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from rl_logging import ExperimentLogger
from tests.benchmarks import stores
from tests.benchmarks.rows import Row

EVERY = 10
GOAL = 1.03
VALUES = {f"train/metric_{index}": index * 0.5 for index in range(20)}

WITHOUT = "no logging"
Log = Callable[[Mapping[str, float], int], object]


def rows(arguments: Sequence[str]) -> list[Row]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks training")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4096)
    parser.add_argument("--ours", action="store_true", help="without the SDKs' own ways, which take most of the time")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    os.environ.update(WANDB_SILENT="true", WANDB_CONSOLE="off")
    order = [WITHOUT, *OURS] if options.ours else list(WAYS)
    seconds: dict[str, list[float]] = {name: [] for name in order}
    for number in range(options.rounds + 1):
        for name in order:
            with tempfile.TemporaryDirectory() as folder, WAYS[name](Path(folder)) as log:
                taken = train(log, options.steps)
            if number:
                seconds[name].append(taken)
        order.reverse()
    return [row(name, series, seconds[WITHOUT]) for name, series in seconds.items() if name != WITHOUT]


def row(name: str, series: list[float], without: list[float]) -> Row:
    ratios = [taken / alone for taken, alone in zip(series, without, strict=True)]
    ratio = statistics.median(ratios)
    ours = name in OURS
    return Row(
        name=f"SB3 PPO with {name}",
        beside=f"{WITHOUT}: {statistics.median(without):.2f} s",
        goal=f"≤ {GOAL}×" if ours else "",
        figure=f"{ratio:.3f}× ({min(ratios):.3f} to {max(ratios):.3f})",
        reached=ratio <= GOAL if ours else None,
        details={"ratios": ratios, "wall_s": series, "without_s": without},
    )


def train(log: Log, steps: int) -> float:
    class Logs(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls % EVERY == 0:
                log(VALUES, self.num_timesteps)
            return True

    model = PPO("MlpPolicy", gymnasium.make("CartPole-v1"), seed=0, device="cpu")
    began = time.perf_counter()
    model.learn(steps, callback=Logs())
    return time.perf_counter() - began


@contextmanager
def nothing(folder: Path) -> Iterator[Log]:
    yield lambda values, step: None


def _logger(folder: Path) -> ExperimentLogger:
    return ExperimentLogger(stores.both(folder), dir=folder / "runs", quiet=True)


@contextmanager
def started(folder: Path) -> Iterator[Log]:
    """With a delivery process that has imported the SDKs and opened both runs before the training begins."""
    with _logger(folder) as logger:
        logger.log_metrics(VALUES, step=0)
        assert logger.flush(timeout=120)
        yield logger.log_metrics


@contextmanager
def starting(folder: Path) -> Iterator[Log]:
    """With one that starts while the training runs, and competes with it for the processor."""
    os.environ["RL_LOGGING_BENCHMARK"] = str(folder)  # a process of an earlier run would have another environment
    with _logger(folder) as logger:
        yield logger.log_metrics


@contextmanager
def both_sdks(folder: Path, *, synchronous: bool = True) -> Iterator[Log]:
    import mlflow
    import wandb

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    with mlflow.start_run(), wandb.init(mode="offline", project="bench", dir=str(folder)) as run:

        def log(values: Mapping[str, float], step: int) -> None:
            mlflow.log_metrics(dict(values), step=step, synchronous=synchronous)
            run.log(dict(values), step=step)

        yield log
        if not synchronous:
            mlflow.flush_async_logging()


def both_sdks_async(folder: Path) -> AbstractContextManager[Log]:
    return both_sdks(folder, synchronous=False)


OURS = ("rl_logging", "rl_logging, and the start of its delivery process")

WAYS: dict[str, Callable[[Path], AbstractContextManager[Log]]] = {
    WITHOUT: nothing,
    OURS[0]: started,
    OURS[1]: starting,
    "wandb.log and mlflow.log_metrics in the loop": both_sdks,
    "the same with MLflow's synchronous=False": both_sdks_async,
}
