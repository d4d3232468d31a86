"""``rl-logging runs``."""

from __future__ import annotations

import click

from rl_logging.cli import stores as stores_


@click.command()
@stores_.options(status="any")
def runs(stores: tuple[str, ...], experiment: str | None, group: str | None, status: str, as_json: bool) -> None:
    """Lists runs, in stores or in run directories."""
    found = sorted(
        (run for _, run in stores_.find(stores, experiment, group, status)),
        key=lambda run: run.created,
    )
    columns = ("run", "id", "experiment", "status", "created", "group", "parent")
    rows = [stores_.told(run) for run in found]
    shown = [column for column in columns if column not in ("group", "parent") or any(row[column] for row in rows)]
    stores_.show(rows, [*shown, *(["store"] if len(stores) > 1 else [])], as_json)
