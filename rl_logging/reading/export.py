"""What was logged, as files that other tools read: CSV, Parquet, TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rl_logging.reading.metrics import COLUMNS, LoggedMetrics


class ExportError(Exception):
    """What was asked for cannot be written; the message says why and what to do."""


def to_csv(metrics: LoggedMetrics, path: Path) -> None:
    """Writes one row a point: run, name, step, time (seconds since the epoch), value."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for run in metrics.runs:
            for name, series in run.items():
                points = zip(series.step.tolist(), series.time.tolist(), series.value.tolist(), strict=True)
                writer.writerows((run.path.name, name, *point) for point in points)


def to_parquet(metrics: LoggedMetrics, path: Path) -> None:
    """Writes the table that `to_csv` writes; the runs' and metrics' names as dictionaries.

    Raises:
        ExportError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ExportError("a Parquet file needs pyarrow: pip install pyarrow; --to csv does without") from error
    columns = {
        name: pyarrow.array(column, pyarrow.string()).dictionary_encode() if name in ("run", "name") else column
        for name, column in metrics.columns().items()
    }
    parquet.write_table(pyarrow.table(columns), path)


def to_tensorboard(metrics: LoggedMetrics, folder: Path) -> None:
    """Writes an event file of scalars for each run, in a folder named like its run directory.

    Raises:
        ExportError: tensorboard is not installed, or such a folder has files in it.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise ExportError("TensorBoard's files need tensorboard: pip install tensorboard") from error
    for run in metrics.runs:
        room = folder / run.path.name
        if room.is_dir() and any(room.iterdir()):
            raise ExportError(f"{room} has files in it: TensorBoard would show them as one run; give another --output")
        points = sorted(
            (time, step, name, value)
            for name, series in run.items()
            for step, time, value in zip(series.step.tolist(), series.time.tolist(), series.value.tolist(), strict=True)
        )
        writer = EventFileWriter(str(room))
        try:
            for time, step, name, value in points:
                summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
                writer.add_event(Event(wall_time=time, step=step, summary=summary))
        finally:
            writer.close()


FORMATS: Final[dict[str, Callable[[LoggedMetrics, Path], None]]] = {
    "csv": to_csv,
    "parquet": to_parquet,
    "tensorboard": to_tensorboard,
}
"""Writers by the name of their format."""
