"""Which share of a training's CPU time is spent in our code.

The ratios of `tests.benchmarks.adapters` have the noise of whole trainings in them. Here the training is interrupted
every few milliseconds of its CPU time (as often as the kernel's clock ticks) and asked where it is. A sample is ours
where, from the innermost frame outwards, a file of ours comes before one of theirs: the framework's, the environment's,
and torch's optimizers and clipping, which we only pass on. What else we call in torch, NumPy or the system is ours.
Beside it stands what one bare ``os.write`` in each step takes, by the same samples.
"""

from __future__ import annotations

import argparse
import importlib.util
import linecache
import logging
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch

from tests.benchmarks import bare_write
from tests.benchmarks.adapters import BARE, FRAMEWORKS, GOAL, TINY, timed
from tests.benchmarks.rows import Row

EVERY_S = 0.001
MOST_NAMED = 5


def rows(arguments: Sequence[str]) -> list[Row]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks shares", description=__doc__.splitlines()[0])
    parser.add_argument("--trainings", type=int, default=10)
    parser.add_argument("--only", choices=FRAMEWORKS, help="one framework instead of all")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    logging.getLogger("skrl").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        return [
            measure(name, interval, Path(folder), options.trainings)
            for name in FRAMEWORKS
            for interval in (BARE, "framework", "step")
            if options.only in (None, name)
        ]


def measure(name: str, interval: str, folder: Path, trainings: int) -> Row:
    """Trains once to warm up, and then so many times."""
    samples = Samples()

    def sampled(train: Callable[[], object]) -> float:
        with samples.taken():
            return timed(train)

    FRAMEWORKS[name](folder, timed)[interval]()
    train = FRAMEWORKS[name](folder, sampled)[interval]
    cpu_s = sum(train() for _ in range(trainings))
    share = samples.ours / samples.all
    judged = interval != BARE and name not in TINY
    return Row(
        name=f"{name}, {interval if interval == BARE else f'interval: {interval}'}",
        beside=f"the training's CPU time, {cpu_s:.0f} s",
        goal=f"≤ {GOAL - 1:.0%}" if judged else "",
        figure=f"{share:.1%} of {samples.all:,} samples",
        reached=share <= GOAL - 1 if judged else None,
        details={"ours": samples.ours, "samples": samples.all, "where": dict(samples.where.most_common(MOST_NAMED))},
    )


@dataclass
class Samples:
    """Where a training was, so many times.

    Attributes:
        all: How often it was asked.
        ours: How often it was in our code.
        where: The same by our innermost function.
    """

    all: int = 0
    ours: int = 0
    where: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Takes samples meanwhile."""
        before = signal.signal(signal.SIGPROF, self._take)
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.all += 1
        while frame is not None and not frame.f_code.co_filename.startswith(_EITHER):
            frame = frame.f_back
        if frame is not None and frame.f_code.co_filename.startswith(_OURS) and not _passes_on(frame):
            self.ours += 1
            self.where[f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"] += 1


def _passes_on(frame: FrameType) -> bool:
    """Whether the frame is where a hook calls what it hooked: what that leaves is freed on its return, and is its."""
    return "inner(" in linecache.getline(frame.f_code.co_filename, frame.f_lineno or 0)


def _folder_of(package: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return f"{Path(spec.origin).parent}{os.sep}"


THEIRS = ("stable_baselines3", "skrl", "gymnasium", "torch.optim", "torch.nn.utils")
_OURS = (_folder_of("rl_logging"), bare_write.__file__)
_EITHER = (*_OURS, *map(_folder_of, THEIRS))
