"""Two MLflow runs of one training that went back to a checkpoint: the earlier keeps what was logged beyond it.

MLflow deletes no point, so the steps that come again go to a run of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

from rl_logging.sinks import SinkContext
from rl_logging_mlflow.remote import NOT_FOUND, RemoteRun

RESUMED_FROM_TAG = "rl_logging.resumed_from"
SUPERSEDED_BY_TAG = "rl_logging.superseded_by"


def succession_tags(context: SinkContext) -> Mapping[str, str]:
    """Returns what a run says from its first moment of the one whose place it takes; nothing where it takes none."""
    return {} if context.supersedes is None else {RESUMED_FROM_TAG: str(context.supersedes.get("id"))}


def link(remote: RemoteRun, context: SinkContext) -> None:
    """Has the earlier run name this one; nothing where this one takes no other's place."""
    earlier_id = succession_tags(context).get(RESUMED_FROM_TAG)
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
