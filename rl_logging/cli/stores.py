"""Stores on the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rl_logging.retrieval import find_runs, open_store
from rl_logging.stores import RunInfo, Store, StoreError

UNBOUNDED = 10_000
STATUSES = ("finished", "failed", "killed", "running", "any")

Command = Callable[..., Any]


def options(status: str) -> Callable[[Command], Command]:
    """Adds the options that say which runs are meant; those with `status` without more."""

    def add(command: Command) -> Command:
        for option in (
            click.option("--json", "as_json", is_flag=True, help="Prints JSON, one object a run."),
            click.option(
                "--status", type=click.Choice(STATUSES), default=status, show_default=True, help="Only such runs."
            ),
            click.option("--group", help="Only runs of this group."),
            click.option("--experiment", help="Only the runs of this experiment: its name or id."),
            click.option(
                "--store",
                "stores",
                multiple=True,
                metavar="LOCATION",
                help="A folder of run directories, MLflow's tracking URI, 'mlflow', or wandb:ENTITY/PROJECT; may be "
                "given several times. Default: what the environment names, else rl_runs, else MLflow's own default.",
            ),
        ):
            command = option(command)
        return command

    return add


def find(stores: Sequence[str], experiment: str | None, group: str | None, status: str) -> list[tuple[Store, RunInfo]]:
    """Returns the runs that the options mean, with the store of each; ends the command where there are none."""
    found = []
    reasons = []
    for location in stores or (None,):
        try:
            store = open_store(location)
            found += [(store, run) for run in find_runs(experiment, status=status, group=group, store=store)]
        except StoreError as error:
            reasons.append(str(error))
    if not found:
        raise click.ClickException("\n".join(reasons))
    for reason in reasons:
        click.echo(reason, err=True)
    return found


def show(rows: Sequence[dict[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """Prints rows as a table of some of their entries, or all of them as JSON."""
    if as_json:
        for row in rows:
            click.echo(msgspec.json.encode(row).decode())
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=UNBOUNDED)  # a pipe, or a file: one line a run, whole
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")  # an id that is cut short is of no use
    for row in rows:
        table.add_row(*(escape(_text(column, row[column])) for column in columns))
    console.print(table)


def told(run: RunInfo) -> dict[str, Any]:
    """Returns what is told of a run: its own fields, and ``run`` for its name."""
    fields: dict[str, Any] = msgspec.to_builtins(run)
    return {"run": fields.pop("name"), **fields}


def _text(column: str, value: object) -> str:
    if value is None:
        return ""
    if column == "created":
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))  # type: ignore[arg-type]
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
