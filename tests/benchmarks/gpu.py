"""What a call with CUDA values costs the caller while the device is busy, beside ``.item()`` on each.

Needs a CUDA device; without one there is a row that says so.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

import torch

from rl_logging import ExperimentLogger
from tests.benchmarks.rows import Row

BUSY_CYCLES = 100_000_000
"""The kernel before each call: some 50 ms of a device's clock."""


def rows(arguments: Sequence[str]) -> list[Row]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks gpu")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        return [Row(name="log_metrics of CUDA tensors", figure="there is no CUDA device here, so not measured")]
    scalars = {f"train/metric_{index}": torch.tensor(index * 0.5, device="cuda") for index in range(20)}
    large = torch.empty(4096, 64, device="cuda").normal_()
    with (
        tempfile.TemporaryDirectory() as folder,
        ExperimentLogger(dir=folder, delivery="offline", quiet=True) as logger,
    ):
        found = []
        for name, ours, theirs in (
            (
                "20 CUDA scalars",
                lambda: logger.log_metrics(scalars),
                lambda: [value.item() for value in scalars.values()],
            ),
            (
                "a CUDA tensor of 4096×64",
                lambda: logger.log_metrics({"grad": large}),
                lambda: [figure.item() for figure in (large.mean(), large.std(), large.min(), large.max())],
            ),
        ):
            ours_us, theirs_us = host_us(ours, theirs, options.rounds)
            found.append(
                Row(
                    name=f"log_metrics of {name}, the stream busy",
                    beside=f".item() on each: {theirs_us:,.0f} µs",
                    goal="no wait for the device",
                    figure=f"{ours_us:.0f} µs",
                    reached=ours_us * 10 < theirs_us,
                    details={
                        "call_us": ours_us,
                        "item_us": theirs_us,
                        "device": torch.cuda.get_device_name(),
                        "synchronises": synchronises(ours),
                    },
                )
            )
    return found


def host_us(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Returns the medians of the host's time, in turns, each behind a long kernel; the first round warms up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for call, taken in zip((ours, theirs), seconds, strict=True):
            torch.cuda.synchronize()
            torch.cuda._sleep(BUSY_CYCLES)
            begin = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begin)
    ours_s, theirs_s = (statistics.median(taken[1:]) for taken in seconds)
    return ours_s * 1e6, theirs_s * 1e6


def synchronises(call: Callable[[], object]) -> bool:
    """Whether CUDA's own watch sees the call wait."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError:
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False
