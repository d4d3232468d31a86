"""The W&B run that a sink writes to: begun, or gone on with, where W&B has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import wandb

from rl_logging.sinks import SinkContext, TransientError
from rl_logging_wandb import moving, opening, origin, sdk
from rl_logging_wandb.core_log import CoreLog
from rl_logging_wandb.offline_store import OfflineStore
from rl_logging_wandb.online_store import OnlineStore
from rl_logging_wandb.stores import without_internals


class RemoteRun(NamedTuple):
    """A W&B run that is open.

    Attributes:
        run: The SDK's object.
        store: The side that acknowledges.
        state: What is kept for the next opening: ``id``, ``url``, ``base`` (the ``_step`` below our first row) and
            where its rows are.
    """

    run: wandb.Run
    store: OfflineStore | OnlineStore
    state: dict[str, Any]


def open_offline(
    context: SinkContext, options: Mapping[str, Any], run_id: str, state: Mapping[str, Any] | None
) -> RemoteRun:
    """Opens an offline run in a new directory, above what earlier directories of its id have.

    Args:
        context: The run.
        options: Resolved options.
        run_id: The W&B run's id.
        state: What the last opening returned; None: this is the first.

    Raises:
        TransientError: W&B's folder cannot be written now.
        RejectedError: It never can be, or the options are refused.
    """
    found = opening.run_directories(options, run_id, offline=True)
    if state is None:
        # What has no note of ours is an earlier run of the same id in the same folder. Ours goes on above its rows.
        own = [path for path in found if _noted_base(context, [path]) is not None]
        foreign = [path for path in found if path not in own]
    else:
        foreign = [Path(path) for path in state.get("foreign", ())]
        own = [path for path in found if path not in foreign]
    earlier = OfflineStore(foreign)
    earlier.refresh()
    store = OfflineStore(own)
    store.refresh()
    continued = bool(own)
    base = state["base"] if state is not None else _noted_base(context, own)
    run = opening.init_run(
        context,
        options,
        run_id,
        tags=store.tags if continued else None,
        notes=store.notes if continued else None,
    )
    directory = Path(run.dir).parent
    if continued:
        # Each directory is synced as a whole run: without this the last one's config and summary would replace the
        # earlier ones'.
        run.config.update(without_internals(store.config), allow_val_change=True)
        run.summary.update(without_internals(store.summary))
    moving.leave_note(directory, context)
    store.go_on_in(directory)
    kept = {
        "id": run_id,
        "url": str(directory),
        "base": int(base) if base is not None else max(earlier.last_step, 0),
        "fragments": [str(path) for path in [*own, directory]],
        "foreign": [str(path) for path in foreign],
    }
    return RemoteRun(run, store, kept)


def open_online(
    context: SinkContext, options: Mapping[str, Any], run_id: str, state: Mapping[str, Any] | None
) -> RemoteRun:
    """Opens a run on the server, or the one of this id that is there.

    Args:
        context: The run.
        options: Resolved options, with a folder in which files can be locked.
        run_id: The W&B run's id.
        state: What the last opening returned; None: this is the first.

    Raises:
        TransientError: The server cannot be reached now.
        RejectedError: Credentials or options are refused.
    """
    run = opening.init_run(context, options, run_id)
    path = f"{run.entity}/{run.project}/{run.id}"
    last_step = int(run.starting_step) - 1
    core_log = CoreLog(sdk.core_log(run))
    store = OnlineStore(path, run.settings.base_url, last_step, core_log, context.ledger.warn)
    store.config = without_internals(dict(run.config))
    origin.link(run, context)
    base = None if state is None else state["base"]
    if state is None and last_step >= 0:
        try:
            base = origin.noted_base(origin.stored_config(run), context)
        except TransientError:
            sdk.let_go(run, context.ledger.warn)
            raise
    kept = {
        "id": run_id,
        "url": run.url,
        "path": path,
        "base": int(base) if base is not None else max(last_step, 0),
    }
    return RemoteRun(run, store, kept)


def _noted_base(context: SinkContext, directories: Sequence[Path]) -> int | None:
    store = OfflineStore(directories)
    store.refresh()
    return origin.noted_base(store.config, context)
