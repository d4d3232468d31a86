"""``rl-logging clean``."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from rl_logging.bundle import Bundle, find
from rl_logging.bundle.deleting import find_put_aside, is_put_aside
from rl_logging.bundle.unmade import find_unmade
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
    is still running, or that has no destination, stays. A directory in which a run was begun and never made goes, and
    so does what an earlier ``clean`` that was cut short has left.
    """
    before = time.time() - days * 86_400
    rows: list[tuple[Bundle | Path, str | None]] = []  # a path is one in which there is no run
    for path in run_dir:
        left = list(find_put_aside(path))
        rows += [(one, None) for one in left]
        unmade = [one for one in find_unmade(path) if one not in left]
        found: list[Bundle | Path] = [*unmade]
        if not (left or unmade) or any(find(path)):
            found += bundles.find([path])
        for one in found:
            begun = one.manifest.created if isinstance(one, Bundle) else one.stat().st_mtime
            rows.append((one, "it is not that old" if days and begun > before else why_kept(one, offline_too)))
    table = Table("run", "size", "")
    for one, kept in rows:
        verdict = f"stays: {kept}" if kept else f"goes{_why(one)}"
        table.add_row(*map(escape, (_path(one).name, decimal(size_of(_path(one))), verdict)))
    Console().print(table)
    doomed = [one for one, kept in rows if kept is None]
    if dry_run or not doomed:
        return
    if not yes:
        click.confirm(f"Delete {len(doomed)} of {len(rows)} run directories?", abort=True)
    for one in doomed:
        try:
            kept = remove(one, offline_too)
        except OSError as error:
            raise click.ClickException(f"{_path(one)} could not be deleted: {error}") from error
        click.echo(f"{_path(one)}: " + (f"stays: {kept}" if kept else "deleted"))


def _why(one: Bundle | Path) -> str:
    if isinstance(one, Bundle):
        return ""
    return ": its deletion was cut short" if is_put_aside(one) else ": no run was made in it"


def _path(one: Bundle | Path) -> Path:
    return one.path if isinstance(one, Bundle) else one
