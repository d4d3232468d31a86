"""What a W&B run's own configuration says of where it comes from: whose rows it has, and whose place it takes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import wandb

from rl_logging.sinks import SinkContext, TransientError

_log = logging.getLogger("rl_logging.wandb")

NOTE: Final = "_rl_logging"
"""The key, hidden on W&B's pages, of whose records the rows are and from which ``_step`` on."""
RESUMED_FROM: Final = "rl_logging.resumed_from"
SUPERSEDED_BY: Final = "rl_logging.superseded_by"

API_TIMEOUT_S: Final = 5


def noted_base(config: Mapping[str, Any], context: SinkContext) -> int | None:
    """Returns the base of this run's rows where W&B has some of them already; None where it has none of ours.

    So a delivery that has lost its state goes on where it was, instead of beginning a second time above its own rows.
    """
    note = config.get(NOTE)
    if isinstance(note, Mapping) and note.get("run") == context.run_id and isinstance(note.get("base"), int):
        return int(note["base"])
    return None


def stored_config(run: wandb.Run) -> Mapping[str, Any]:
    """Returns the configuration that the server has of a run; what the client knows of it then is not all.

    Raises:
        TransientError: The server does not answer.
    """
    try:
        return dict(_ask(run, run.id).config)
    except Exception as error:  # the SDK has no error of its own for each thing that can happen here
        raise TransientError(f"W&B does not say what it has of {run.id}: {error}") from error


def leave_note(run: wandb.Run, context: SinkContext, base: int) -> None:
    """Says in the run's configuration whose it is, and whose place it takes."""
    told: dict[str, Any] = {NOTE: {"run": context.run_id, "base": base}}
    earlier = _earlier_id(context)
    if earlier is not None:
        told[RESUMED_FROM] = earlier
    run.config.update(told, allow_val_change=True)


def own_id(options: Mapping[str, Any], context: SinkContext) -> str:
    """Returns the id for a new W&B run; the one the user chose is taken where this run takes the place of another."""
    chosen = options.get("id")
    if chosen and context.supersedes is not None:
        return f"{chosen}--{context.run_id.rpartition('-')[2]}"
    return str(chosen or context.run_id)


def link(run: wandb.Run, context: SinkContext) -> None:
    """Has the run whose place this one takes name it, on the server; a run offline stays as it is."""
    earlier = _earlier_id(context)
    if earlier is None:
        return
    try:
        superseded = _ask(run, earlier)
        if superseded.config.get(SUPERSEDED_BY) != run.id:
            superseded.config[SUPERSEDED_BY] = run.id
            superseded.update()
    except Exception as error:  # a courtesy: this run's own configuration has the link
        _log.warning("run %s was not told that %s takes its place: %r", earlier, run.id, error)


def _ask(run: wandb.Run, run_id: str) -> Any:
    api = wandb.Api(overrides={"base_url": run.settings.base_url}, timeout=API_TIMEOUT_S)
    return api.run(f"{run.entity}/{run.project}/{run_id}")


def _earlier_id(context: SinkContext) -> str | None:
    earlier = (context.supersedes or {}).get("id")
    return None if earlier is None else str(earlier)
