"""Run directories on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from rl_logging.bundle import Bundle, BundleError, owing, unmade
from rl_logging.bundle.destination import destinations
from rl_logging.bundle.owing import Owing

PATHS = click.argument("run_dir", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
_PASSED_OVER: Final = "rl_logging.passed_over"


def find(paths: Sequence[Path]) -> list[Bundle]:
    """Returns the run directories that `paths` name, or hold; ends the command where one is none.

    One that cannot be read is told once, and passed over where it is one of a folder's: see `passed_over`.
    """
    try:
        found, unread = owing.find_bundles(paths)
    except BundleError as error:
        raise click.ClickException(str(error)) from error
    told = click.get_current_context().meta.setdefault(_PASSED_OVER, set())
    for path in unread.keys() - told:
        click.echo(f"passed over: {unread[path]}", err=True)
    told.update(unread)
    return found


def passed_over() -> bool:
    """Whether this command has found a run directory that cannot be read."""
    return bool(click.get_current_context().meta.get(_PASSED_OVER))


def tell_unmade(paths: Sequence[Path]) -> None:
    """Tells of the directories in which a run was begun and never made."""
    for path in paths:
        for begun in unmade.find_unmade(path):
            click.echo(f"{begun} {unmade.UNMADE}", err=True)


def debts_of(bundle: Bundle, to: Sequence[str] = ()) -> list[Owing]:
    """Returns what a run owes each destination (those of the sinks `to`, where any are named), or ends the command."""
    try:
        return owing.owing(bundle, to)
    except BundleError as error:
        raise click.ClickException(str(error)) from error


def names_of(bundle: Bundle) -> dict[str, str]:
    """Returns what to call each destination of a run, by its key: its sink, and where it leads where that has several.

    Raises:
        BundleError: What was added to the run's destinations is damaged.
    """
    entries = destinations(bundle)
    sinks = [entry.name for entry in entries]
    return {
        entry.key: entry.name if sinks.count(entry.name) == 1 else f"{entry.name} ({entry.destination})"
        for entry in entries
    }
