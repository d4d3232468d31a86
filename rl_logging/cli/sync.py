"""``rl-logging sync``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Final

import click
import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from rl_logging.bundle import Bundle, BundleError
from rl_logging.bundle.destination import DestinationFile, DestinationState, destinations
from rl_logging.bundle.owing import Owing, owing
from rl_logging.cli import bundles
from rl_logging.delivery import garbage
from rl_logging.run.summary import forgotten_in_words, look_command
from rl_logging.settings.sinks import SinkSettings
from rl_logging.sync import BundleSync, add

LOOK_FOR_RUNS_EVERY_S: Final = 2.0

_OPTIONS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "mlflow": ("tracking_uri", "experiment"),
    "wandb": ("project", "entity", "mode"),
}
"""Which of the command's options belong to which sink."""


@click.command()
@bundles.PATHS
@click.option("--to", "to", multiple=True, metavar="SINK", help="Only to this sink; may be given several times.")
@click.option("--tracking-uri", help="With --to mlflow: another store than the run was configured for.")
@click.option("--experiment", help="With --to mlflow: the experiment there.")
@click.option("--project", help="With --to wandb: another project than the run was configured for.")
@click.option("--entity", help="With --to wandb: whose project.")
@click.option("--mode", type=click.Choice(["online", "offline"]), help="With --to wandb.")
@click.option("--set", "options", multiple=True, metavar="SINK.KEY=VALUE", help="Any other option of a sink in --to.")
@click.option("--jobs", default=4, show_default=True, type=click.IntRange(min=1), help="Runs delivered at once.")
@click.option("--watch", is_flag=True, help="Follows runs that are still being written, until they are over.")
@click.option("--dry-run", is_flag=True, help="Only says what would be delivered.")
@click.option("--trust", is_flag=True, help="Imports the modules that the runs' own sinks name, without asking.")
def sync(
    run_dir: tuple[Path, ...],
    to: tuple[str, ...],
    options: tuple[str, ...],
    jobs: int,
    watch: bool,
    dry_run: bool,
    trust: bool,
    **known: str | None,
) -> None:
    """Delivers what the runs still owe their destinations.

    RUN_DIR is a run directory, or a folder of them. With --to and options of the sink, the runs go to a destination
    that they were not configured for, and remember it.

    A destination that was given up ('rl-logging forget') gets nothing, unless --to names its sink: that takes it up
    again.

    The exit code is 0 only when every record is in every store asked for; 1 when something is still owed; 3 when a
    store refused records for good (they are in sinks/*.rejected.jsonl), or lacks some that the run directory no longer
    had.
    """
    asked = _asked(to, options, known)
    syncs = _Syncs(to, asked, watch=watch, trust=trust)
    code = _dry_run(run_dir, to, asked) if dry_run else syncs.run(run_dir, jobs)
    sys.exit(1 if bundles.passed_over() else code)


class _Syncs:
    """Delivers many runs at once, with a progress bar for each destination.

    Args:
        to: The sinks asked for; none: all of each run.
        asked: Options for those of them that may be new to a run.
        watch: Whether to follow runs that are not over.
        trust: Whether to import what runs name without asking.
    """

    def __init__(self, to: Sequence[str], asked: Sequence[SinkSettings], *, watch: bool, trust: bool) -> None:
        self._to = to
        self._asked = asked
        self._watch = watch
        self._trust = trust
        self._console = Console()
        columns = (
            TextColumn("{task.description}", table_column=Column(overflow="fold")),  # its end may tell it from another
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=self._console)
        self._left: dict[Path, list[Owing]] = {}
        self._syncs: list[BundleSync] = []
        self._passed_over = False

    def run(self, paths: Sequence[Path], jobs: int) -> int:
        """Returns the exit code."""
        with self._progress, ThreadPoolExecutor(jobs) as pool:
            pending: dict[Future[list[Owing]], Bundle] = {}
            try:
                for bundle in bundles.find(paths):
                    self._begin(bundle, pool, pending)
                while pending or self._waits_for_runs(paths):
                    if pending:
                        done, _ = wait(pending, LOOK_FOR_RUNS_EVERY_S, FIRST_COMPLETED)
                    else:
                        done = set()
                        time.sleep(LOOK_FOR_RUNS_EVERY_S)
                    for future in done:
                        self._conclude(pending.pop(future), future)
                    if self._watch:
                        for bundle in bundles.find(paths):
                            if bundle.path not in self._left:
                                self._begin(bundle, pool, pending)
            except KeyboardInterrupt:
                for one in self._syncs:
                    one.stop()
                for future, bundle in pending.items():
                    self._conclude(bundle, future)
        left = [debt for debts in self._left.values() for debt in debts]
        if self._passed_over or any(debt.anything for debt in left):
            return 1
        wanted = [debt.state for debt in left if not debt.state.forgotten]
        return 3 if any(state.rejected or state.lacking for state in wanted) else 0

    def _waits_for_runs(self, paths: Sequence[Path]) -> bool:
        """Whether more runs may appear: in a folder of them that is watched."""
        return self._watch and any(path not in self._left for path in map(Path.absolute, paths))

    def _begin(self, bundle: Bundle, pool: ThreadPoolExecutor, pending: dict[Future[list[Owing]], Bundle]) -> None:
        self._left[bundle.path] = []
        try:
            debts = self._left[bundle.path] = self._debts(bundle)
        except OSError as error:
            self._pass_over(bundle, error)
            return
        self._ask_for_trust(bundle, debts)
        names = bundles.names_of(bundle)
        tasks: dict[str, TaskID] = {}
        for debt in debts:
            tasks[debt.entry.key] = self._progress.add_task(
                escape(f"{bundle.path.name} → {names[debt.entry.key]}"),
                total=debt.accepted,
                completed=debt.state.confirmed,
                note="" if debt.anything else "nothing owed",
            )

        def tell(key: str, state: DestinationState) -> None:
            garbage.spare(state)
            note = "waiting for the store" if state.phase == "backoff" else ""
            task = tasks[key]
            known = self._progress.tasks[self._progress.task_ids.index(task)].total or 0
            total = max(known, state.handed_over)
            self._progress.update(task, completed=state.confirmed, total=total, note=note)

        def warn(key: str, message: str) -> None:
            words = f"{bundle.path.name} → {names[key]}: {message}"
            self._progress.console.print(words, style="yellow", markup=False, soft_wrap=True)

        one = BundleSync(bundle, debts, tell, warn, watch=self._watch)
        self._syncs.append(one)

        def deliver() -> list[Owing]:
            left = one.run()
            for debt in left:
                self._progress.update(tasks[debt.entry.key], completed=debt.state.confirmed, total=debt.accepted)
            return left

        pending[pool.submit(deliver)] = bundle

    def _debts(self, bundle: Bundle) -> list[Owing]:
        try:
            keys = {add(bundle, sink) for sink in self._asked}
        except BundleError as error:
            raise click.ClickException(str(error)) from error
        named = [name for name in self._to if name not in {sink.name for sink in self._asked}]
        if not self._to:
            return bundles.debts_of(bundle)
        bundles.debts_of(bundle, named)  # the run has those sinks
        for entry in destinations(bundle):  # what was given up and is asked for is taken up again
            if entry.key in keys or entry.name in named:
                DestinationFile(bundle, entry).take_up()
        return [debt for debt in bundles.debts_of(bundle) if debt.entry.key in keys or debt.entry.name in named]

    def _ask_for_trust(self, bundle: Bundle, debts: Sequence[Owing]) -> None:
        """Asks before a module that a run directory names is imported: it may come from anywhere."""
        for debt in debts:
            factory = debt.entry.factory
            if factory is None or not debt.anything or self._trust:
                continue
            self._progress.stop()
            question = f"{bundle.path}: its sink '{debt.entry.name}' is made by {factory}. Import that?"
            if not sys.stdin.isatty() or not click.confirm(question):
                raise click.ClickException(
                    f"{bundle.path}: its sink '{debt.entry.name}' is made by {factory}: give --trust to import that, "
                    "or --to with the other sinks"
                )
            self._progress.start()

    def _pass_over(self, bundle: Bundle, error: Exception) -> None:
        self._passed_over = True
        words = f"{bundle.path.name}: cannot be delivered: {error}"
        self._progress.console.print(words, style="yellow", markup=False, soft_wrap=True)

    def _conclude(self, bundle: Bundle, future: Future[list[Owing]]) -> None:
        try:
            left = self._left[bundle.path] = future.result()
            names = bundles.names_of(bundle)
        except (OSError, BundleError) as error:  # this run's trouble alone, such as a directory that is read-only
            self._pass_over(bundle, error)
            return
        for debt in left:
            where = f"{bundle.path.name} → {names[debt.entry.key]}"
            if debt.state.forgotten:
                line = f"{where}: {forgotten_in_words(debt.accepted, debt.state)}"
            elif debt.anything:
                line = f"{where}: {debt.records:,} records still owed to {debt.entry.destination}: {_why(debt)}"
            else:
                parts = [f"{debt.state.delivered:,} delivered"]
                parts += [f"{debt.state.rejected:,} rejected"] if debt.state.rejected else []
                gone = f"{debt.state.lacking:,} deleted from the journal before it could have them"
                parts += [gone] if debt.state.lacking else []
                command = look_command(debt.entry, debt.state)
                look = f"  look at it: {command}" if command else ""
                line = f"{where}: {', '.join(parts)}.{look}"
            self._progress.console.print(line, markup=False, soft_wrap=True, highlight=False)


def _why(debt: Owing) -> str:
    if debt.state.last_error:
        return debt.state.last_error
    if debt.entry.live:
        return "a live object of the training process"
    return "" if debt.over else "the run is still being written"


def _dry_run(paths: Sequence[Path], to: Sequence[str], asked: Sequence[SinkSettings]) -> int:
    owed = 0
    for bundle in bundles.find(paths):
        new = {sink.name for sink in asked}
        for name in new:
            click.echo(f"{bundle.path.name}: {name}: would go where these options lead")
            owed += 1
        for debt in owing(bundle, [name for name in to if name not in new]) if not new or set(to) - new else ():
            if debt.state.forgotten and debt.entry.name in to:
                debt.state.forgotten = False  # it would be taken up again
            what = f"{debt.records:,} records" if debt.records else "the run's end" if debt.anything else "nothing"
            click.echo(f"{bundle.path.name}: {debt.entry.name}: {what} owed to {debt.entry.destination}")
            owed += debt.anything
    return 1 if owed else 0


def _asked(to: Sequence[str], pairs: Sequence[str], known: Mapping[str, str | None]) -> list[SinkSettings]:
    """Returns the sinks that options were given for."""
    options: dict[str, dict[str, Any]] = {}
    for sink, keys in _OPTIONS_OF.items():
        for key in keys:
            if known.get(key) is not None:
                options.setdefault(sink, {})[key] = known[key]
    for pair in pairs:
        path, equals, text = pair.partition("=")
        sink, dot, key = path.partition(".")
        if not equals or not dot or not key:
            raise click.BadParameter(f"{pair!r} is not SINK.KEY=VALUE", param_hint="--set")
        options.setdefault(sink, {})[key] = yaml.safe_load(text)
    for sink in options:
        if sink not in to:
            flags = ", ".join("--" + key.replace("_", "-") for key in options[sink])
            raise click.UsageError(f"{flags}: means something with --to {sink} only")
    return [SinkSettings(name=sink, options=values, key=f"--to {sink}") for sink, values in options.items()]
