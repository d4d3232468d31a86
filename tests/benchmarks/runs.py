"""Runs to deliver, and the same scalars given to the SDKs directly: what delivery is measured beside."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from rl_logging import ExperimentLogger, plugins
from rl_logging.bundle import Bundle
from rl_logging.delivery import BundleDelivery
from rl_logging.records import RunStatus
from rl_logging.secrets import restore
from rl_logging.sinks import Sink, SinkContext

PER_CALL = 20
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Spent:
    """What delivering took: seconds on the clock, and CPU seconds of all processes that had a part in it."""

    wall_s: float
    cpu_s: float


class Stopwatch:
    """Measures from its start until it is read.

    CPU is that of this process, of its children that have ended meanwhile, and of `others`, by their ids, with their
    children.
    """

    def __init__(self, others: Sequence[int] = ()) -> None:
        self._others = [psutil.Process(pid) for pid in others]
        self._began = self._now()

    def read(self) -> Spent:
        wall_s, cpu_s = self._now()
        return Spent(wall_s - self._began[0], cpu_s - self._began[1])

    def _now(self) -> tuple[float, float]:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = time.process_time() + children.ru_utime + children.ru_stime
        for root in self._others:
            for process in (root, *root.children(recursive=True)):
                times = process.cpu_times()
                cpu_s += times.user + times.system
        return time.perf_counter(), cpu_s


def values(per_call: int, step: int) -> dict[str, float]:
    """Returns the scalars of one call."""
    return {f"train/metric_{index}": index * 0.5 + step for index in range(per_call)}


def offline_run(folder: Path, config: Mapping[str, Any], scalars: int, per_call: int = PER_CALL) -> Bundle:
    """Returns a run that is over, has `scalars` in its journal, and owes all of them."""
    with ExperimentLogger(config, dir=folder, delivery="offline", quiet=True) as logger:
        for step in range(scalars // per_call):
            logger.log_metrics(values(per_call, step), step=step)
    return Bundle(logger.run_dir)


class _Timed:
    """A sink that says when `inner` was open, and when it was closed."""

    def __init__(self, inner: Sink, opened: Callable[[], None], closed: Callable[[], None]) -> None:
        self._inner = inner
        self._opened, self._closed = opened, closed
        self.accepts = inner.accepts
        self.write = inner.write
        self.confirmed = inner.confirmed

    def open(self, state: Mapping[str, Any] | None) -> Mapping[str, Any]:
        opened = self._inner.open(state)
        self._opened()
        return opened

    def close(self, status: RunStatus | None, /) -> None:
        self._inner.close(status)
        self._closed()


def deliver(bundle: Bundle, others: Sequence[int] = ()) -> Spent:
    """Delivers a run to its destination in this process; returns what that took from the sink's opening on."""
    watch: list[Stopwatch] = []

    def opened() -> None:
        # As `rl_logging.delivery.garbage` does, once in a process of its own; here the next turn has it all back.
        gc.collect()
        gc.freeze()
        watch.append(Stopwatch(others))

    spent: list[Spent] = []

    def make(name: str, context: SinkContext, options: Mapping[str, Any]) -> Sink:
        inner = plugins.load(name).make_sink(context, restore(options, os.environ))
        return _Timed(inner, opened, lambda: spent.append(watch[0].read()))

    (entry,) = bundle.manifest.sinks
    told: list[str] = []
    delivery = BundleDelivery(
        bundle,
        live=False,
        tell=lambda key, state: None,
        warn=lambda key, message: told.append(message),
        objects={entry.key: make},
        patience_s=PATIENCE_S,
    )
    delivery.start()
    delivery.join()
    gc.unfreeze()
    if told:
        raise RuntimeError(f"{bundle.path}: {told}")
    return spent[-1]


def raw_mlflow(uri: str, scalars: int, per_call: int = PER_CALL, others: Sequence[int] = ()) -> Spent:
    """Gives a new run `scalars` by ``MlflowClient.log_batch`` of 1000."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(tracking_uri=uri)
    run_id = client.create_run("0").info.run_id
    watch = Stopwatch(others)
    batch: list[Any] = []
    for step in range(scalars // per_call):
        now_ms = int(time.time() * 1000)
        for name, value in values(per_call, step).items():
            batch.append(Metric(name, value, now_ms, step))
            if len(batch) == 1000:
                client.log_batch(run_id, metrics=batch)
                batch = []
    if batch:
        client.log_batch(run_id, metrics=batch)
    client.set_terminated(run_id)
    return watch.read()


def raw_wandb(folder: Path, scalars: int, per_call: int = PER_CALL) -> Spent:
    """Gives a new offline run `scalars` by ``run.log`` in a loop, and ends it."""
    import wandb

    settings = wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True, disable_git=True)
    run = wandb.init(mode="offline", project="bench", dir=str(folder), settings=settings)
    watch = Stopwatch()
    for step in range(scalars // per_call):
        run.log(values(per_call, step), step=step)
    run.finish()
    wandb.teardown()
    return watch.read()
