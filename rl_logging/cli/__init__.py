"""The command ``rl-logging``."""

from __future__ import annotations

import logging

import click

import rl_logging
from rl_logging.cli.demo import demo
from rl_logging.cli.doctor import doctor
from rl_logging.cli.sinks import sinks
from rl_logging.cli.status import status
from rl_logging.cli.sync import sync


@click.group()
@click.version_option(rl_logging.__version__, prog_name="rl-logging")
def main() -> None:
    """Looks at runs that rl_logging wrote, and delivers what they still owe."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


for command in (demo, doctor, sinks, status, sync):
    main.add_command(command)
