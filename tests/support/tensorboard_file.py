"""Reading TensorBoard's event files with TensorBoard's own reader."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Points = dict[str, list[tuple[int, float]]]
"""Each name's (step, value), in the order they were written."""


def scalars(folder: Path) -> Points:
    """Returns all scalars of all event files below `folder`, run by run."""
    points: Points = {}
    for file in sorted(folder.rglob("events.out.tfevents.*"), key=_order):
        reader = EventAccumulator(str(file), size_guidance={"scalars": 0}, purge_orphaned_data=False)
        reader.Reload()
        for tag in reader.Tags()["scalars"]:
            points.setdefault(tag, []).extend((event.step, event.value) for event in reader.Scalars(tag))
    return points


def _order(file: Path) -> tuple[Path, int, int]:
    """Returns when a file was begun: by its name's second, and its number among the files of its process."""
    parts = file.name.removeprefix("events.out.tfevents.").split(".")
    return file.parent, int(parts[0]), int(parts[-1])


def as_written(value: float) -> float:
    """Returns what TensorBoard's float32 makes of `value`."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def same(ours: Sequence[tuple[int, float]], written: Sequence[tuple[int, float]]) -> bool:
    """Returns whether our points, in float64, are those of an event file; a NaN equals a NaN."""
    return len(ours) == len(written) and all(
        step == other_step and (as_written(value) == other or (math.isnan(value) and math.isnan(other)))
        for (step, value), (other_step, other) in zip(ours, written, strict=True)
    )
