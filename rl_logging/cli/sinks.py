"""``rl-logging sinks``."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rl_logging import plugins


@click.command()
def sinks() -> None:
    """Lists the installed sinks, and whether what they need is there."""
    table = Table("sink", "plugin", "from", "state")
    for name, entry in sorted(plugins.installed().items()):
        package = entry.dist.name if entry.dist else "?"
        table.add_row(name, entry.value, f"{package} {_version(package)}", escape(_readiness(name)))
    Console().print(table)


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
