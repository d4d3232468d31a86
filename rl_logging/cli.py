"""The command ``rl-logging``."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

import rl_logging
from rl_logging import owing, plugins, sync
from rl_logging.bundle import Bundle, BundleError
from rl_logging.config import SettingsError
from rl_logging.destination import DestinationState
from rl_logging.owing import Owing
from rl_logging.summary import destination_status, look_command

PATHS = click.argument("run_dir", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))


@click.group()
@click.version_option(rl_logging.__version__, prog_name="rl-logging")
def main() -> None:
    """Looks at runs that rl_logging wrote, and delivers what they still owe."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


@main.command()
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


@main.command()
@PATHS
@click.option("--json", "as_json", is_flag=True, help="Prints JSON, one object a destination.")
def status(run_dir: tuple[Path, ...], as_json: bool) -> None:
    """Says what each destination of the runs has, and what it is still owed.

    RUN_DIR is a run directory, or a folder of them.
    """
    rows: list[tuple[Bundle, Owing]] = []
    for bundle in _bundles(run_dir):
        rows += [(bundle, debt) for debt in _owing(bundle, ())]
        if not bundle.manifest.sinks and not as_json:
            click.echo(f"{bundle.path}: no sink was configured")
    if as_json:
        for bundle, debt in rows:
            told = msgspec.to_builtins(destination_status(debt.accepted, debt.state))
            click.echo(msgspec.json.encode({"run_dir": str(bundle.path), **told, "over": debt.over}).decode())
        return
    table = Table("run", "sink", "delivered", "owed", "rejected", "state")
    for bundle, debt in rows:
        counts = (debt.state.delivered, debt.records, debt.state.rejected)
        cells = (bundle.path.name, debt.entry.name, *(f"{count:,}" for count in counts), _state_word(debt))
        table.add_row(*map(escape, cells))
    if not rows:
        return
    console = Console()
    console.print(table)
    for bundle, debt in rows:
        lines = [f"{bundle.path.name} → {debt.entry.name}: {debt.state.url or debt.entry.destination}"]
        lines += [f"  {debt.state.last_error}"] if debt.state.last_error else []
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


@main.command(name="sync")
@PATHS
@click.option("--to", "to", multiple=True, metavar="SINK", help="Only to this sink; may be given several times.")
@click.option("--dry-run", is_flag=True, help="Only says what would be delivered.")
def sync_command(run_dir: tuple[Path, ...], to: tuple[str, ...], dry_run: bool) -> None:
    """Delivers what the runs still owe their destinations.

    RUN_DIR is a run directory, or a folder of them. The exit code is 0 only when every record is in every store
    asked for; 1 when something is still owed; 3 when a store refused records for good (they are in
    sinks/*.rejected.jsonl).
    """
    owed, rejected = 0, 0
    for bundle in _bundles(run_dir):
        debts = _owing(bundle, to)
        if dry_run:
            for debt in debts:
                what = f"{debt.records:,} records" if debt.records else "the run's end" if debt.anything else "nothing"
                click.echo(f"{bundle.path.name}: {debt.entry.name}: {what} owed to {debt.entry.destination}")
            owed += sum(debt.anything for debt in debts)
            continue
        left = _sync_one(bundle, debts)
        owed += sum(debt.anything for debt in left)
        rejected += sum(debt.state.rejected for debt in left)
    sys.exit(1 if owed else 3 if rejected else 0)


@main.command()
def sinks() -> None:
    """Lists the installed sinks, and whether what they need is there."""
    table = Table("sink", "plugin", "from", "state")
    for name, entry in sorted(plugins.installed().items()):
        package = entry.dist.name if entry.dist else "?"
        table.add_row(name, entry.value, f"{package} {_version(package)}", escape(_readiness(name)))
    Console().print(table)


def _bundles(paths: tuple[Path, ...]) -> list[Bundle]:
    try:
        return owing.find_bundles(paths)
    except BundleError as error:
        raise click.ClickException(str(error)) from error


def _owing(bundle: Bundle, to: tuple[str, ...]) -> list[Owing]:
    try:
        return owing.owing(bundle, to)
    except BundleError as error:
        raise click.ClickException(str(error)) from error


def _sync_one(bundle: Bundle, debts: list[Owing]) -> list[Owing]:
    """Delivers one run with a progress bar for each destination; returns what is owed then."""
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}
        for debt in debts:
            note = "" if debt.anything else "nothing owed"
            tasks[debt.entry.key] = progress.add_task(
                escape(f"{bundle.path.name} → {debt.entry.name}"),
                total=debt.accepted,
                completed=debt.state.confirmed,
                note=note,
            )

        def tell(key: str, state: DestinationState) -> None:
            note = "waiting for the store" if state.phase == "backoff" else ""
            progress.update(tasks[key], completed=state.confirmed, note=note)

        def warn(key: str, message: str) -> None:
            progress.console.print(f"{bundle.path.name}: {message}", style="yellow", markup=False)

        left = sync.deliver(bundle, debts, tell, warn) if any(debt.anything for debt in debts) else debts
        for debt in left:
            progress.update(tasks[debt.entry.key], completed=debt.state.confirmed)
    for debt in left:
        if debt.anything:
            reason = debt.state.last_error or ("a live object of the training process" if debt.entry.live else "")
            console.print(
                f"{debt.entry.name}: {debt.records:,} records still owed to {debt.entry.destination}: {reason}",
                markup=False,
                soft_wrap=True,
            )
            continue
        parts = [f"{debt.state.delivered:,} delivered"]
        parts += [f"{debt.state.rejected:,} rejected"] if debt.state.rejected else []
        command = look_command(debt.entry, debt.state)
        look = f"  look at it: {command}" if command else ""
        console.print(f"{debt.entry.name}: {', '.join(parts)}.{look}", soft_wrap=True, markup=False)
    return left


def _state_word(debt: Owing) -> str:
    if debt.state.closed is not None and not debt.records:
        return debt.state.closed
    if debt.state.phase == "refused":
        return "refused"
    if not debt.over:
        return "running"
    return "owed" if debt.anything else "done"


def _readiness(name: str) -> str:
    try:
        problems = plugins.load(name).check_options({})
    except plugins.PluginError as error:
        return str(error)
    return "; ".join(problems) or "ready"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
