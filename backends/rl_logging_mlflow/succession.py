"""Two MLflow runs of one training that went back to a checkpoint: the earlier keeps what was logged beyond it.

MLflow deletes no point, so the steps that come again go to a run of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_logging.sinks import SinkContext
from rl_logging_mlflow.remote import NOT_FOUND, RemoteRun

RESUMED_FROM_TAG = "rl_logging.resumed_from"
SUPERSEDED_BY_TAG = "rl_logging.superseded_by"


def succession_tags(context: SinkContext) -> Mapping[str, str]:
    """Returns what a run says from its first moment of the one whose place it takes; nothing where it takes none."""
    earlier_id = earlier_run_id(context)
    return {} if earlier_id is None else {RESUMED_FROM_TAG: earlier_id}


def earlier_run_id(context: SinkContext) -> str | None:
    """Returns the run whose place this one takes; None where it takes none, or that is not known any more."""
    earlier_id = (context.supersedes or {}).get("id")
    return None if earlier_id is None else str(earlier_id)


def newest(client: Any, run: Any) -> Any:
    """Returns the run that goes on in the place of `run`, a `mlflow.entities.Run`; itself where none does.

    One that was deleted goes on in nobody's place.
    """
    seen = {run.info.run_id}
    while (later_id := run.data.tags.get(SUPERSEDED_BY_TAG)) is not None and later_id not in seen:
        seen.add(later_id)
        try:
            later = client.get_run(later_id)
        except Exception as error:
            if getattr(error, "get_http_status_code", lambda: None)() != NOT_FOUND:
                raise
            return run
        if later.info.lifecycle_stage == "deleted":
            return run
        run = later
    return run


def link(remote: RemoteRun, context: SinkContext) -> None:
    """Has the earlier run name this one; nothing where this one takes no other's place."""
    earlier_id = earlier_run_id(context)
    if earlier_id is None:
        return
    if earlier_id == remote.id:
        context.ledger.warn(
            f"the training went back to a checkpoint, and goes on in the run it was told to log to ({remote.id}): "
            "that keeps the points logged before beside those that come again"
        )
        return
    try:
        remote.client.set_tag(earlier_id, SUPERSEDED_BY_TAG, remote.id)
    except Exception as error:
        if getattr(error, "get_http_status_code", lambda: None)() != NOT_FOUND:
            raise
        context.ledger.warn(f"the run {earlier_id}, whose place this one takes, is not there any more: {error}")
