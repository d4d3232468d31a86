"""Run directories on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from rl_logging.bundle import Bundle, BundleError, owing
from rl_logging.bundle.owing import Owing

PATHS = click.argument("run_dir", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))


def find(paths: Sequence[Path]) -> list[Bundle]:
    """Returns the run directories that `paths` name, or hold; ends the command where one is none."""
    try:
        return owing.find_bundles(paths)
    except BundleError as error:
        raise click.ClickException(str(error)) from error


def debts_of(bundle: Bundle, to: Sequence[str] = ()) -> list[Owing]:
    """Returns what a run owes each destination (those of the sinks `to`, where any are named), or ends the command."""
    try:
        return owing.owing(bundle, to)
    except BundleError as error:
        raise click.ClickException(str(error)) from error
