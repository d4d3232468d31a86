"""``rl-logging tail``."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import click
import msgspec

from rl_logging.bundle import Bundle, BundleError
from rl_logging.bundle import find as find_in
from rl_logging.reading import records
from rl_logging.reading.following import follow
from rl_logging.records import Config, End, Environment, Metrics, Record, body_of

Show = Callable[[Record], str | None]


@click.command()
@click.argument("run_dir", type=click.Path(exists=True, path_type=Path), default=Path("rl_runs"))
@click.option(
    "--metric", "names", multiple=True, help="A metric's name or a pattern such as 'eval/*'; can be repeated."
)
@click.option("-n", "--lines", default=10, show_default=True, help="How many of the records that are there to show.")
@click.option(
    "--follow/--no-follow", "-f", "follows", default=True, show_default=True, help="Goes on until the run is over."
)
@click.option("--json", "as_json", is_flag=True, help="Prints JSON, one object a record.")
def tail(run_dir: Path, names: tuple[str, ...], lines: int, follows: bool, as_json: bool) -> None:
    """Shows what a run logs, as it logs it.

    RUN_DIR is a run directory, or a folder of them: then its newest run. Ctrl-C ends it.
    """
    bundle = _newest(run_dir)
    show: Show = (lambda record: _json(record, names)) if as_json else (lambda record: _line(record, names))
    if not as_json:
        click.echo(f"{bundle.path}", err=True)
    source = follow(bundle) if follows else _with_a_pause(records(bundle))
    waiting: deque[str] | None = deque(maxlen=max(0, lines))  # None once what was there is shown
    try:
        for record in source:
            if record is None:
                while waiting:
                    click.echo(waiting.popleft())
                waiting = None
                sys.stdout.flush()
            elif text := show(record):
                if waiting is None:
                    click.echo(text)
                else:
                    waiting.append(text)
    except KeyboardInterrupt:
        sys.exit(130)


def _with_a_pause(there: Iterator[Record]) -> Iterator[Record | None]:
    yield from there
    yield None


def _newest(path: Path) -> Bundle:
    try:
        found = [Bundle(folder) for folder in find_in(path)]
    except BundleError as error:
        raise click.ClickException(str(error)) from error
    if not found:
        raise click.ClickException(f"{path} is not a run directory, and holds none")
    return max(found, key=lambda bundle: bundle.manifest.created)


def _chosen(values: dict[str, float], names: tuple[str, ...]) -> dict[str, float]:
    if not names:
        return values
    return {key: value for key, value in values.items() if any(fnmatchcase(key, name) for name in names)}


def _json(record: Record, names: tuple[str, ...]) -> str | None:
    body = body_of(record)
    if isinstance(record, Metrics):
        body = _chosen(record.values, names)
        if not body:
            return None
    elif names:
        return None
    told = {"seq": record.seq, "time": record.time, "step": record.step, "kind": record.kind, "body": body}
    return msgspec.json.encode(told).decode()


def _line(record: Record, names: tuple[str, ...]) -> str | None:
    clock = time.strftime("%H:%M:%S", time.localtime(record.time))
    step = "" if record.step is None else f"{record.step:,}"
    if isinstance(record, Metrics):
        values = _chosen(record.values, names)
        text = "  ".join(f"{key}={value:.6g}" for key, value in values.items())
        return f"{clock} {step:>12}  {text}" if values else None
    if names or isinstance(record, (Config, Environment)):
        return None
    what = record.status if isinstance(record, End) else getattr(record, "name", "")
    return f"{clock} {step:>12}  [{record.kind}] {what}"
