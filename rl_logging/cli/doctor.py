"""``rl-logging doctor``."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final, Literal

import click
import msgspec
from rich.console import Console

import rl_logging
from rl_logging import plugins
from rl_logging.bundle.entries import EntryError, make_entry
from rl_logging.hookspecs import Surroundings
from rl_logging.locks import Lock
from rl_logging.logger import ExperimentLogger
from rl_logging.settings import Loaded, load
from rl_logging.settings.sections import SettingsError
from rl_logging.settings.sinks import SinkSettings

PACKAGES: Final[Mapping[str, str]] = {
    "mlflow": "rl-logging[mlflow]",
    "mlflow-skinny": "rl-logging[mlflow-skinny]",
    "wandb": "rl-logging[wandb]",
    "stable-baselines3": "rl-logging[sb3]",
    "sb3-contrib": "sb3-contrib",
    "skrl": "rl-logging[skrl]",
    "torch": "rl-logging[skrl]",
    "ray": "rl-logging[ray]",
    "gymnasium": "rl-logging[all]",
    "imageio-ffmpeg": "rl-logging[video]",
    "psutil": "rl-logging[system]",
    "nvidia-ml-py": "rl-logging[system]",
    "matplotlib": "rl-logging[plot]",
}
"""What rl_logging works with, and what installs it."""

ADAPTERS: Final[Mapping[str, tuple[str, str | None]]] = {
    "stable_baselines3": ("stable-baselines3", None),
    "skrl": ("skrl", None),
    "ray_tune": ("ray", "tune"),
}
"""Each adapter's package, and the extra of that package which it needs."""

LEAST_FREE_BYTES: Final = 1 << 30

_MARKS: Final = {"good": ("✓", "green"), "note": ("·", "dim"), "bad": ("✗", "red")}


class Finding(msgspec.Struct, frozen=True):
    """One thing the doctor looked at.

    Attributes:
        about: What.
        verdict: ``good``, ``note`` (neither good nor bad) or ``bad``.
        words: What was found, with the remedy where something is wrong.
    """

    about: str
    verdict: Literal["good", "note", "bad"]
    words: str


@click.command()
@click.argument("config", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--try", "attempt", is_flag=True, help="Sends a small run to each store, and says what came of it.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="For how many seconds to try.",
)
def doctor(config: Path | None, attempt: bool, timeout_s: float) -> None:
    """Says what is installed, what is configured, and what is wrong, with the remedy.

    CONFIG is the YAML file that a program gives to ExperimentLogger; without it, the environment's settings are
    looked at. The exit code is 1 where something is wrong.
    """
    console = Console(highlight=False, soft_wrap=True)
    wrong = False
    for title, findings in (
        ("Installed", _installed()),
        ("Configured", _configured(config)),
        *((("Tried", _tried(config, timeout_s)),) if attempt else ()),
    ):
        console.print(title, style="bold")
        for finding in findings:
            mark, style = _MARKS[finding.verdict]
            console.print(f"  {mark} {finding.about}: {finding.words}", style=style, markup=False)
            wrong = wrong or finding.verdict == "bad"
    if not attempt:
        console.print("\nWhether each store takes a run is seen with:  rl-logging doctor --try", style="dim")
    sys.exit(1 if wrong else 0)


def _installed() -> Iterator[Finding]:
    yield Finding("rl_logging", "good", f"{rl_logging.__version__}, Python {platform.python_version()}")
    for package, remedy in PACKAGES.items():
        try:
            yield Finding(package, "good", version(package))
        except PackageNotFoundError:
            yield Finding(package, "note", f"not installed: pip install '{remedy}'")
    for name, entry in sorted(plugins.installed().items()):
        try:
            problems = plugins.load(name).check_options({})
        except plugins.PluginError as error:
            yield Finding(f"sink {name}", "bad", str(error))
            continue
        verdict: Literal["good", "note"] = "note" if problems else "good"
        yield Finding(f"sink {name}", verdict, "; ".join(problems) or f"ready ({entry.value})")
    for name, (package, extra) in ADAPTERS.items():
        missing = _missing(package, extra)
        words = f"needs {', '.join(missing)}: pip install '{PACKAGES[package]}'"
        if not missing:
            words = f"ready (rl_logging.adapters.{name})"
        yield Finding(f"adapter {name}", "note" if missing else "good", words)


def _missing(package: str, extra: str | None) -> list[str]:
    """Returns what an adapter lacks, by what the packages say of themselves: importing them takes seconds."""
    if not _is_installed(package):
        return [package]
    needs = [need for need in requires(package) or () if extra and re.search(rf"extra == ['\"]{extra}['\"]", need)]
    names = dict.fromkeys(re.split(r"[^\w.-]", need, maxsplit=1)[0] for need in needs)
    return [name for name in names if not _is_installed(name)]


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _configured(config: Path | None) -> Iterator[Finding]:
    try:
        loaded = load(config, {})
    except SettingsError as error:
        yield Finding("settings", "bad", str(error))
        return
    for notice in loaded.notices:
        yield Finding("settings", "bad", notice)
    settings = loaded.settings
    yield Finding("delivery", "good", settings.delivery)
    yield from _folder(Path(settings.dir).expanduser().absolute())
    if settings.system_metrics_s is not None and not _is_installed("psutil"):
        yield Finding("system metrics", "bad", f"they need psutil: pip install '{PACKAGES['psutil']}'")
    if not loaded.sinks:
        words = "none is configured: runs are kept in their directories alone; name one below rl_logging.sinks, or in"
        yield Finding("sinks", "bad", f"{words} RL_LOGGING_SINKS")
    for sink in loaded.sinks:
        yield from _destination(sink, loaded)


def _folder(folder: Path) -> Iterator[Finding]:
    """Looks at where run directories go: the nearest folder that is there, which is left as it was found."""
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    try:
        scratch = tempfile.TemporaryDirectory(prefix=".rl-logging-doctor-", dir=there)
        with scratch, Lock(Path(scratch.name) / "a.lock").wait() as held:
            native = held.native
    except OSError as error:
        yield Finding("run directories", "bad", f"{folder} cannot be written ({error.strerror}): set rl_logging.dir")
        return
    words = "can be written" if native else "can be written; it has no file locks, so a lease stands for them"
    yield Finding("run directories", "good" if native else "note", f"{folder} {words}")
    free = shutil.disk_usage(there).free
    yield Finding("disk", "good" if free >= LEAST_FREE_BYTES else "bad", f"{free / 1e9:,.1f} GB free")


def _destination(sink: SinkSettings, loaded: Loaded) -> Iterator[Finding]:
    if sink.given is not None:
        yield Finding(sink.name, "good", "an object of the program")
        return
    surroundings = Surroundings(project=loaded.settings.project, cwd=Path.cwd(), environ=os.environ)
    with _overheard() as told:
        try:
            entry, credentials = make_entry(sink, surroundings)
        except EntryError as error:
            yield Finding(sink.name, "bad", str(error))
            return
    with_credentials = f", with credentials for {', '.join(sorted(credentials))}" if credentials else ""
    yield Finding(sink.name, "good", f"goes to {entry.destination}{with_credentials}")
    yield from _notes(sink.name, told)


def _tried(config: Path | None, timeout_s: float) -> Iterator[Finding]:
    """Sends a run of one point to each store."""
    started = time.monotonic()
    # A store that is not done in time goes on writing there, until this process ends.
    folder = tempfile.TemporaryDirectory(prefix="rl-logging-doctor-", ignore_cleanup_errors=True)
    with folder as scratch, _overheard() as told:
        try:
            logger = ExperimentLogger(config, name="rl-logging-doctor", dir=scratch, delivery="thread", quiet=True)
        except SettingsError as error:
            yield Finding("settings", "bad", str(error))
            return
        logger.log_metrics({"doctor/took_s": time.monotonic() - started}, step=0)
        logger.flush(timeout_s)
        logger.finish(timeout=timeout_s)
        if not logger.status():
            yield Finding("sinks", "note", "there is none to try")
        for name, status in logger.status().items():
            where = status.url or status.destination
            if status.pending:
                why = status.last_error or f"nothing was confirmed within {timeout_s:.0f} s"
                remedy = ""
                if status.last_error is None:
                    remedy = "; give it longer with --timeout"
                elif status.phase == "backoff":
                    remedy = "; see that it runs and that its address is right"
                yield Finding(name, "bad", f"{where} did not take a run: {why}{remedy}")
            elif status.rejected:
                yield Finding(
                    name, "bad", f"{where} refused {status.rejected} records: {status.last_error or 'see above'}"
                )
            else:
                yield Finding(name, "good", f"{where} took a run called rl-logging-doctor: delete it as you like")
                yield from _notes(name, told)


def _notes(name: str, told: list[str]) -> Iterator[Finding]:
    """Gives what was told of one sink."""
    for message in told:
        if message.startswith(f"{name}: "):
            yield Finding(name, "note", message.removeprefix(f"{name}: "))


@contextlib.contextmanager
def _overheard() -> Iterator[list[str]]:
    """Gives the block's warnings, which are worded for somebody who trains, instead of showing them."""
    log, told = logging.getLogger("rl_logging"), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    propagate = log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield told
    finally:
        log.propagate = propagate
        log.removeHandler(handler)
