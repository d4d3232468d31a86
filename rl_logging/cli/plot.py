"""``rl-logging plot``."""

from __future__ import annotations

from pathlib import Path

import click

from rl_logging.plotting import CurvesError, draw, learning_curves
from rl_logging.retrieval import open_store
from rl_logging.stores import StoreError


@click.command()
@click.argument("store", nargs=-1)
@click.option("--metric", required=True, help="The metric's name, such as episode_reward_mean.")
@click.option("--group-by", help="What tells settings apart, such as algorithm,env or a path in the configuration.")
@click.option("--experiment", help="Only the runs of this experiment.")
@click.option("--failed-too", is_flag=True, help="Also runs that failed or were killed.")
@click.option("--title", help="The title; what all curves have in common without.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("curves.png"),
    show_default=True,
    help="The picture: .png, .svg or .pdf.",
)
def plot(
    store: tuple[str, ...],
    metric: str,
    group_by: str | None,
    experiment: str | None,
    failed_too: bool,
    title: str | None,
    output: Path,
) -> None:
    """Draws learning curves: seeds of one setting as their interquartile mean with a confidence band.

    STORE is a folder of run directories (rl_runs without), an MLflow tracking URI such as sqlite:///mlflow.db, or
    wandb:entity/project; several make one picture.
    """
    keys = [key.strip() for key in group_by.split(",") if key.strip()] if group_by else None
    try:
        opened = [open_store(location) for location in store or ("rl_runs",)]
        keys_used, curves = learning_curves(opened, metric, group_by=keys, experiment=experiment, failed_too=failed_too)
        draw(curves, metric, title=title).savefig(output)
    except (CurvesError, StoreError, ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    for curve in curves:
        named = ", ".join(f"{key} {value}" for key, value in zip(keys_used, curve.setting, strict=True) if value)
        click.echo(f"{named or 'all'}: {curve.runs} runs, to step {curve.step[-1]:,.0f}")
    click.echo(str(output))
