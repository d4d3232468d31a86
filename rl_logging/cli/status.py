"""``rl-logging status``."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from rl_logging.bundle import Bundle
from rl_logging.bundle.owing import Owing
from rl_logging.cli import bundles
from rl_logging.run.summary import destination_status, forgotten_in_words


@click.command()
@bundles.PATHS
@click.option("--json", "as_json", is_flag=True, help="Prints JSON, one object a destination.")
def status(run_dir: tuple[Path, ...], as_json: bool) -> None:
    """Says what each destination of the runs has, and what it is still owed.

    RUN_DIR is a run directory, or a folder of them.
    """
    rows: list[tuple[Bundle, Owing, str]] = []
    bundles.tell_unmade(run_dir)
    for bundle in bundles.find(run_dir):
        debts = bundles.debts_of(bundle)
        names = bundles.names_of(bundle)
        rows += [(bundle, debt, names[debt.entry.key]) for debt in debts]
        if not debts and not as_json:
            click.echo(f"{bundle.path}: no sink was configured")
    if as_json:
        for bundle, debt, _ in rows:
            told = msgspec.to_builtins(destination_status(debt.accepted, debt.state))
            told["state"] = _state_word(debt)  # the table's word; what delivery did last (`phase`) is none to wait for
            del told["phase"]
            click.echo(msgspec.json.encode({"run_dir": str(bundle.path), **told, "over": debt.over}).decode())
        return
    table = Table("run", Column("sink", overflow="fold"), "delivered", "owed", "rejected", "state")
    for bundle, debt, name in rows:
        counts = (debt.state.delivered, debt.records, debt.state.rejected)
        cells = (bundle.path.name, name, *(f"{count:,}" for count in counts), _state_word(debt))
        table.add_row(*map(escape, cells))
    if not rows:
        return
    console = Console()
    console.print(table)
    for bundle, debt, name in rows:
        where = f"{name}: {debt.state.url}" if debt.state.url else f"{debt.entry.name}: {debt.entry.destination}"
        lines = [f"{bundle.path.name} → {where}"]
        if debt.state.forgotten:
            lines.append(f"  {forgotten_in_words(debt.accepted, debt.state)}")
        elif debt.state.last_error:
            lines.append(f"  {debt.state.last_error}")
        if debt.state.lacking:
            lines.append(f"  lacks {debt.state.lacking:,} records, deleted from the journal before it could have them")
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _state_word(debt: Owing) -> str:
    if debt.state.forgotten:
        return "given up"
    if debt.state.closed is not None and not debt.records:
        return debt.state.closed
    if debt.state.phase == "refused":
        return "refused"
    return "owed" if debt.over else "running"
