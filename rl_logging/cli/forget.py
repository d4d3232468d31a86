"""``rl-logging forget``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import DestinationFile
from rl_logging.bundle.owing import Owing
from rl_logging.cli import bundles
from rl_logging.run.summary import forgotten_in_words


@click.command()
@bundles.PATHS
@click.option("--sink", required=True, metavar="NAME", help="The sink whose destinations are given up.")
@click.option("--destination", metavar="TEXT", help="Only where it leads there, in the words of 'rl-logging status'.")
@click.option("--dry-run", is_flag=True, help="Says what would be given up, and gives up nothing.")
@click.option("-y", "--yes", is_flag=True, help="Does not ask.")
def forget(run_dir: tuple[Path, ...], sink: str, destination: str | None, dry_run: bool, yes: bool) -> None:
    """Gives up a destination that will never take what it is owed: nothing is owed to it any more.

    RUN_DIR is a run directory, or a folder of them. What the destination has stays there. 'rl-logging sync --to NAME'
    takes it up again, with what is still in the run directory then.
    """
    rows = [
        (bundle, debt, _why_not(debt, destination))
        for bundle in bundles.find(run_dir)
        for debt in bundles.debts_of(bundle)
        if debt.entry.name == sink
    ]
    if not rows:
        raise click.ClickException(f"no run there has a sink '{sink}'")
    table = Table("run", "destination", "has", "owed", "")
    for bundle, debt, why_not in rows:
        counts = f"{debt.state.delivered:,} of {debt.accepted:,}", f"{debt.records:,}"
        verdict = f"stays: {why_not}" if why_not else "is given up"
        table.add_row(*map(escape, (bundle.path.name, debt.entry.destination, *counts, verdict)))
    Console().print(table)
    doomed = [(bundle, debt) for bundle, debt, why_not in rows if why_not is None]
    if dry_run or not doomed:
        return
    if not yes:
        click.confirm(f"Give up {len(doomed)} of {len(rows)} destinations?", abort=True)
    for bundle, debt in doomed:
        _forget(bundle, debt)


def _why_not(debt: Owing, destination: str | None) -> str | None:
    if debt.state.forgotten:
        return "it was given up before"
    if destination not in (None, debt.entry.destination):
        return "it is another destination"
    return "nothing is owed to it" if debt.over and not debt.anything else None


def _forget(bundle: Bundle, debt: Owing) -> None:
    try:
        DestinationFile(bundle, debt.entry).forget()
    except OSError as error:
        raise click.ClickException(f"{bundle.path} could not be written: {error}") from error
    where = f"{bundle.path.name} → {debt.entry.name} ({debt.entry.destination})"
    click.echo(f"{where}: {forgotten_in_words(debt.accepted, debt.state)}")
