"""What the SKRL adapter's hooks take of a training's step.

The ratios of `tests.benchmarks.adapters` have the noise of whole trainings in them. This is the CPU time of the
training's thread between a hooked call's beginning and its end, less that of skrl's own method in it, and less what the
readings of the clock take. The longest three of a hundred times are left out, in which the machine did something else.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from time import thread_time_ns as clock
from typing import Any
from unittest import mock

import torch

from rl_logging.adapters.skrl import tap
from rl_logging.adapters.skrl.hooks import Hook
from tests.benchmarks import adapters
from tests.benchmarks.rows import Row

GOAL = 0.01
LEFT_OUT = 0.03
STEPS = {"SAC": 500, "PPO": 1500}


def rows(arguments: Sequence[str]) -> list[Row]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks hooks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=STEPS, help="one algorithm instead of all")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    logging.getLogger("skrl").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        return [
            measure(algorithm, interval, Path(folder))
            for algorithm in STEPS
            for interval in ("framework", "step")
            if options.only in (None, algorithm)
        ]


def measure(algorithm: str, interval: str, folder: Path) -> Row:
    """Trains twice, and times the second training."""
    times = Times()
    times.calibrate()
    with mock.patch.object(tap, "Hook", times.hook):
        for _ in range(2):
            times.clear()
            adapters.skrl_training(algorithm, STEPS[algorithm], folder, interval)
    step_us = trimmed_us([end - begin for begin, end in itertools.pairwise(times.begins)])
    by_method = {
        name: (trimmed_us(taken) - times.reading_us) * len(taken) / STEPS[algorithm]
        for name, taken in times.taken.items()
        if taken
    }
    own_us = sum(by_method.values())
    return Row(
        name=f"SKRL {algorithm}, interval: {interval}",
        beside="the whole step",
        goal=f"≤ {GOAL:.0%}",
        figure=f"{own_us / step_us:.2%}: {own_us:.0f} µs of {step_us:.0f} µs",
        reached=own_us / step_us <= GOAL,
        details={"own_us": own_us, "step_us": step_us, **{f"{name}_us": us for name, us in by_method.items()}},
    )


class Times:
    """The times that all hooks have taken, in nanoseconds of CPU.

    Attributes:
        begins: When each step began.
        reading_us: What of each of these is the timing's own.
        taken: What each call of a method took beyond the method, by its name.
    """

    def __init__(self) -> None:
        self.begins: list[int] = []
        self.taken: defaultdict[str, list[int]] = defaultdict(list)
        self.reading_us = 0.0

    def calibrate(self) -> None:
        """Measures what the timing itself counts as a hook's: that of a hook that does nothing."""

        class Nothing:
            def method(self) -> None: ...

        target = Nothing()
        hook = self.hook(target, "method", lambda inner, args, kwargs: inner(*args, **kwargs), None, lambda: None)
        for _ in range(5000):
            hook()
        self.reading_us = trimmed_us(self.taken["method"])
        self.clear()

    def clear(self) -> None:
        """Forgets all of them."""
        self.begins.clear()
        self.taken.clear()

    def hook(self, target: Any, name: str, *options: Any) -> Hook:
        """Returns a hook that is timed."""
        hook = Hook(target, name, *options)
        inside = [0]
        inner, around = hook._inner, hook._around
        assert around is not None

        def timed_inner(*args: Any, **kwargs: Any) -> Any:
            begin = clock()
            try:
                return inner(*args, **kwargs)
            finally:
                inside[0] += clock() - begin

        def timed_around(_: Any, args: Any, kwargs: Any) -> Any:
            inside[0] = 0
            begin = clock()
            if name == "pre_interaction":
                self.begins.append(begin)
            try:
                return around(timed_inner, args, kwargs)
            finally:
                self.taken[name].append(clock() - begin - inside[0])

        hook._around = timed_around
        return hook


def trimmed_us(taken_ns: Sequence[int]) -> float:
    """Returns the mean without the longest, in microseconds."""
    ordered = sorted(taken_ns)
    kept = ordered[: max(1, int(len(ordered) * (1 - LEFT_OUT)))]
    return sum(kept) / len(kept) / 1e3
