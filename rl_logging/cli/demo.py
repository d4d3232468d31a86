"""``rl-logging demo``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rl_logging.settings.sections import SettingsError


@click.command()
@click.option("--dir", "folder", default="demo", show_default=True, type=click.Path(path_type=Path))
@click.option("--timesteps", default=None, type=click.IntRange(min=1), help="Environment steps of each training.")
def demo(folder: Path, timesteps: int | None) -> None:
    """Trains SB3 PPO and SKRL PPO on CartPole-v1, logged to a local MLflow store and an offline W&B run."""
    try:
        from rl_logging.examples import demo as module
    except ImportError as error:
        raise click.ClickException(f"the demo needs more packages: pip install 'rl-logging[all]' ({error})") from error
    try:
        sys.exit(module.run(folder, timesteps))
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
