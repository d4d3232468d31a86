"""The command ``rl-logging``."""

from __future__ import annotations

import io
import logging
import sys

import click

import rl_logging
from rl_logging.cli.clean import clean
from rl_logging.cli.demo import demo
from rl_logging.cli.doctor import doctor
from rl_logging.cli.export import export
from rl_logging.cli.forget import forget
from rl_logging.cli.plot import plot
from rl_logging.cli.runs import runs
from rl_logging.cli.sinks import sinks
from rl_logging.cli.status import status
from rl_logging.cli.sync import sync
from rl_logging.cli.tail import tail
from rl_logging.cli.top import top


@click.group()
@click.version_option(rl_logging.__version__, prog_name="rl-logging")
def main() -> None:
    """Looks at runs that rl_logging wrote, and delivers what they still owe."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal, or a file, cannot show is spelt out
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


for command in (clean, demo, doctor, export, forget, plot, runs, sinks, status, sync, tail, top):
    main.add_command(command)
