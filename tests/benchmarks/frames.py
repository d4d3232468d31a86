"""What a picture and a video cost the caller's thread, beside a copy of the array to disk."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rl_logging import ExperimentLogger
from tests.benchmarks.rows import Row
from tests.benchmarks.turns import Call, measure, medians_us

PICTURE = "log_image of 256×256"
VIDEO = "log_video of 200 frames of 128×128"
GOAL = 2.0


def rows(arguments: Sequence[str]) -> list[Row]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks frames")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args(arguments)
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (256, 256, 3), np.uint8)
    video = random.integers(0, 256, (200, 128, 128, 3), np.uint8)
    with (
        tempfile.TemporaryDirectory() as folder,
        ExperimentLogger(dir=folder, delivery="offline", quiet=True) as logger,
    ):
        pictures: dict[str, Call] = {
            PICTURE: lambda step: logger.log_image("picture", picture, step=step),
            f"{PICTURE}, copy": lambda step: np.save(Path(folder, f"picture{step}.npy"), picture),
        }
        videos: dict[str, Call] = {
            VIDEO: lambda step: logger.log_video("video", video, step=step),
            f"{VIDEO}, copy": lambda step: np.save(Path(folder, f"video{step}.npy"), video),
        }
        # Apart: what comes after a video finds none of its code in the processor's caches.
        median_us = medians_us(measure(pictures, options.rounds, 5)) | medians_us(measure(videos, options.rounds, 1))
    return [row(name, median_us) for name in (PICTURE, VIDEO)]


def row(name: str, median_us: dict[str, float]) -> Row:
    ours, copied = median_us[name], median_us[f"{name}, copy"]
    return Row(
        name=name,
        beside=f"numpy.save of the array: {copied / 1000:.2f} ms",
        goal=f"≤ {GOAL:g}×",
        figure=f"{ours / copied:.1f}× ({ours / 1000:.2f} ms)",
        reached=ours / copied <= GOAL,
        details={"call_us": ours, "copy_us": copied},
    )
