"""What a call costs by what is logged: other types than floats, beside their conversions alone, and more of them.

A conversion alone is what one would write by hand: ``float`` of each NumPy scalar, ``item`` of each tensor, the names
of a nested mapping joined, NumPy's four aggregates of a tensor in float64. What our call takes beyond it is held
against the same call with as many floats, whose price is the first group's.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from rl_logging import ExperimentLogger
from tests.benchmarks.rows import Row
from tests.benchmarks.turns import Call, measure, medians_us

FLOATS = {f"train/metric_{index}": index * 0.5 for index in range(20)}
FOUR = {f"grad/{part}": 0.5 for part in ("mean", "std", "min", "max")}
NUMPY = {name: np.float32(value) for name, value in FLOATS.items()}
TENSORS = {name: torch.tensor(value) for name, value in FLOATS.items()}
HALF = {f"metric_{index}": index * 0.5 for index in range(10)}
NESTED: dict[str, Any] = {"train": HALF, "eval": {"best": HALF}}
LARGE = {"grad": torch.linspace(-1, 1, 4096)}

GOAL = 2.0
WIDTHS = (1, 10, 100, 1000)


def rows(arguments: Sequence[str]) -> list[Row]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks values")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=50, help="calls of each subject in a round")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with (
        tempfile.TemporaryDirectory() as folder,
        ExperimentLogger(dir=folder, delivery="offline", quiet=True) as logger,
    ):

        def logs(metrics: Mapping[str, object]) -> Call:
            return lambda step: logger.log_metrics(metrics, step=step)

        kinds = {
            "20 NumPy scalars": (logs(NUMPY), lambda step: {name: float(value) for name, value in NUMPY.items()}),
            "20 torch CPU scalars": (
                logs(TENSORS),
                lambda step: {name: value.item() for name, value in TENSORS.items()},
            ),
            "20 floats, nested": (logs(NESTED), lambda step: joined(NESTED, "")),
            "a tensor of 4096": (logs(LARGE), lambda step: aggregates(LARGE["grad"])),
        }
        subjects: dict[str, Call] = {"floats": logs(FLOATS), "four": logs(FOUR)}
        for name, (ours, alone) in kinds.items():
            subjects |= {name: ours, f"{name}, alone": alone}
        subjects |= {f"{width} wide": logs({f"m/{index}": 0.5 for index in range(width)}) for width in WIDTHS}
        median_us = medians_us(measure(subjects, options.rounds, options.calls))
    return [*(kind_row(name, median_us) for name in kinds), *(width_row(width, median_us) for width in WIDTHS)]


def kind_row(name: str, median_us: Mapping[str, float]) -> Row:
    ours, alone = median_us[name], median_us[f"{name}, alone"]
    floats = median_us["four" if name == "a tensor of 4096" else "floats"]
    ratio = (ours - floats) / alone
    return Row(
        name=f"log_metrics of {name}, beyond floats",
        beside=f"the conversions alone: {alone:.1f} µs",
        goal=f"≤ {GOAL:g}×",
        figure=f"{ratio:.1f}× ({ours - floats:.1f} µs; the whole call {ours:.1f} µs, {ours / alone:.1f}×)",
        reached=ratio <= GOAL,
        details={"call_us": ours, "floats_us": floats, "conversions_us": alone},
    )


def width_row(width: int, median_us: Mapping[str, float]) -> Row:
    taken = median_us[f"{width} wide"]
    return Row(
        name=f"log_metrics of {width} floats",
        figure=f"{taken:.1f} µs, {taken / width:.2f} µs a float",
        details={"call_us": taken},
    )


def joined(metrics: Mapping[str, Any], prefix: str) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            flat.update(joined(value, f"{prefix}{name}/"))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def aggregates(tensor: torch.Tensor) -> list[float]:
    array = tensor.numpy().astype(np.float64)
    return [float(array.mean()), float(array.std()), float(array.min()), float(array.max())]
