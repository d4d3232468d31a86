"""``rl-logging export``."""

from __future__ import annotations

from pathlib import Path

import click

from rl_logging.bundle import BundleError
from rl_logging.reading import read_metrics
from rl_logging.reading.export import FORMATS, ExportError


@click.command()
@click.argument("run_dir", nargs=-1, required=True)
@click.option("--to", "kind", type=click.Choice(sorted(FORMATS)), default="csv", show_default=True, help="The format.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The file to write, or with tensorboard the folder; metrics.csv, metrics.parquet, tensorboard without.",
)
@click.option(
    "--metric", "names", multiple=True, help="A metric's name or a pattern such as 'eval/*'; can be repeated."
)
def export(run_dir: tuple[str, ...], kind: str, output: Path | None, names: tuple[str, ...]) -> None:
    """Writes the metrics of runs to a file that other tools read.

    RUN_DIR is a run directory, a folder of them, or a pattern in quotes. CSV and Parquet have one row a point: run,
    name, step, time, value. TensorBoard gets a folder a run.
    """
    target = output or Path("tensorboard" if kind == "tensorboard" else f"metrics.{kind}")
    try:
        metrics = read_metrics(run_dir, names or None)
        if not metrics:
            raise ExportError("no such metric was logged there")
        FORMATS[kind](metrics, target)
    except (BundleError, ExportError, OSError) as error:
        raise click.ClickException(str(error)) from error
    points = sum(len(series.step) for run in metrics.runs for series in run.values())
    click.echo(f"{target}: {points:,} points of {len(metrics)} metrics and {len(metrics.runs)} runs")
