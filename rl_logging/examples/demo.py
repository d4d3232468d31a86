"""What ``rl-logging demo`` runs: two trainings of two frameworks, logged to two stores, and what the stores have."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle
from rl_logging.bundle.owing import Owing, owing
from rl_logging.examples import sb3_ppo, skrl_ppo
from rl_logging.run.summary import look_command, sync_command

TIMESTEPS: Final = 100_000
PROJECT: Final = "rl_logging demo"

_missing = [name for name in ("mlflow", "wandb", "pygame") if importlib.util.find_spec(name) is None]
if _missing:
    raise ImportError(f"No module named {', '.join(map(repr, _missing))}")


def run(folder: Path, timesteps: int | None = None) -> int:
    """Trains PPO of stable-baselines3 and of skrl on CartPole-v1, and shows what each store was given.

    Args:
        folder: Where everything is written.
        timesteps: Environment steps of each training; None: as many as learn it well, in about a minute for both.

    Returns:
        The exit code: 0 only when every record is in every store.
    """
    # CartPole is drawn by SDL: this machine may have no display, and nobody needs its greeting.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    # Networks this small are slower on several threads.
    torch.set_num_threads(1)
    logging.getLogger("skrl").setLevel(logging.WARNING)
    console = Console()
    runs = []
    for logger in _trainings(console, folder, timesteps or TIMESTEPS):
        bundle = Bundle(logger.run_dir)
        runs.append((bundle, owing(bundle)))
    console.print(_table(runs))
    _print_commands(console, runs)
    delivered = all(debts and not any(debt.anything or debt.state.rejected for debt in debts) for _, debts in runs)
    return 0 if delivered else 1


def _trainings(console: Console, folder: Path, timesteps: int) -> Iterator[ExperimentLogger]:
    """Trains once a framework; yields the loggers, finished."""
    sb3, skrl = sb3_ppo.configure(folder), skrl_ppo.configure(folder, timesteps)
    for config in (sb3, skrl):
        config["rl_logging"]["project"] = PROJECT
    skrl["trainer"] |= {"disable_progressbar": True, "close_environment_at_exit": False}
    trainings: dict[str, Callable[[], ExperimentLogger]] = {
        "stable-baselines3": lambda: sb3_ppo.train(sb3, timesteps),
        "skrl": lambda: skrl_ppo.train(skrl),
    }
    for framework, train in trainings.items():
        console.print(f"{framework}: PPO on CartPole-v1, {timesteps:,} environment steps ...")
        began = time.monotonic()
        logger = train()
        console.print(f"{framework}: trained, logged and delivered in {time.monotonic() - began:.0f} s")
        yield logger


def _table(runs: Sequence[tuple[Bundle, Sequence[Owing]]]) -> Table:
    table = Table(title="What the stores have")
    for column in ("run", "sink"):
        table.add_column(column)
    for column in ("delivered", "renamed", "truncated", "rejected", "owed"):
        table.add_column(column, justify="right")
    for bundle, debts in runs:
        for debt in debts:
            state = debt.state
            counts = (state.delivered, len(state.renamed), len(state.truncated), state.rejected, debt.records)
            table.add_row(escape(bundle.manifest.name), debt.entry.name, *(f"{count:,}" for count in counts))
    return table


def _print_commands(console: Console, runs: Sequence[tuple[Bundle, Sequence[Owing]]]) -> None:
    """Prints each command that looks at a store or sends it what it is owed, once, on a line of its own."""
    look: dict[str, None] = {}
    send: dict[str, None] = {}
    for bundle, debts in runs:
        for debt in debts:
            command = look_command(debt.entry, debt.state)
            if command is not None:
                look[command] = None
            if debt.anything:
                send[sync_command(bundle.path)] = None
                why = debt.state.last_error or "not delivered"
                console.print(f"{bundle.manifest.name}: {debt.entry.name}: {why}", markup=False)
    for title, commands in (("Look at it:", look), ("Send what is owed:", send)):
        if commands:
            console.print(f"\n{title}")
        for command in commands:
            console.print(f"  {command}", soft_wrap=True, markup=False, highlight=False)
