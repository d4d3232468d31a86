"""``rl-logging clean``."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from rl_logging.bundle import Bundle
from rl_logging.cli import bundles
from rl_logging.run.cleaning import remove, size_of, why_kept


@click.command()
@bundles.PATHS
@click.option("--dry-run", is_flag=True, help="Says what would be deleted, and deletes nothing.")
@click.option(
    "--older-than", "days", type=click.FloatRange(min=0), default=0.0, help="Only runs begun so many days ago."
)
@click.option("--offline-too", is_flag=True, help="Also runs whose offline W&B folders you have synced.")
@click.option("-y", "--yes", is_flag=True, help="Does not ask.")
def clean(run_dir: tuple[Path, ...], dry_run: bool, days: float, offline_too: bool, yes: bool) -> None:
    """Deletes run directories of which every destination has confirmed everything.

    RUN_DIR is a run directory, or a folder of them. A run that owes anything, whose records a store has refused, that
    is still running, or that has no destination, stays.
    """
    before = time.time() - days * 86_400
    rows: list[tuple[Bundle, str | None]] = []
    for bundle in bundles.find(run_dir):
        young = days and bundle.manifest.created > before
        rows.append((bundle, "it is not that old" if young else why_kept(bundle, offline_too=offline_too)))
    table = Table("run", "size", "")
    for bundle, kept in rows:
        table.add_row(
            *map(escape, (bundle.path.name, decimal(size_of(bundle.path)), f"stays: {kept}" if kept else "goes"))
        )
    Console().print(table)
    doomed = [bundle for bundle, kept in rows if kept is None]
    if dry_run or not doomed:
        return
    if not yes:
        click.confirm(f"Delete {len(doomed)} of {len(rows)} run directories?", abort=True)
    for bundle in doomed:
        try:
            kept = remove(bundle, offline_too=offline_too)
        except OSError as error:
            raise click.ClickException(f"{bundle.path} could not be deleted: {error}") from error
        click.echo(f"{bundle.path}: " + (f"stays: {kept}" if kept else "deleted"))
