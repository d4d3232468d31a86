"""Runs below others: a child's run is nested below its parent's as soon as both are in the store, whichever came first.

Each knows the other by the bundle's id, which is a tag: the parent's own, and what the child says of its parent. So
nobody waits, and a child whose parent never comes stands alone, with that tag. Where the parent went back to a
checkpoint and goes on in a run of its own, its children are below that one: also those that were below the earlier.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from rl_logging.sinks import RejectedError, SinkContext, TransientError
from rl_logging_mlflow.remote import RefusedError, RemoteRun, asking
from rl_logging_mlflow.succession import earlier_run_id, newest

_log = logging.getLogger("rl_logging.mlflow")

RUN_TAG: Final = "rl_logging.run_id"
PARENT_TAG: Final = "rl_logging.parent"
MLFLOW_PARENT_TAG: Final = "mlflow.parentRunId"
LOOK_EVERY_S: Final = 60.0
EXPERIMENTS_MOST: Final = 100
"""So many experiments, the last changed first, are looked through for a parent that is not in the child's own."""

_PAGE: Final = 1000


def find(client: Any, experiment_ids: list[str], tag: str, value: str, most: int = 10) -> list[Any]:
    """Returns runs by a tag of theirs, the oldest first."""
    quote = '"' if "'" in value else "'"
    return list(
        client.search_runs(
            experiment_ids,
            filter_string=f"tags.`{tag}` = {quote}{value}{quote}",
            max_results=most,
            order_by=["attributes.start_time ASC"],
        )
    )


def find_parent(client: Any, parent_id: str, experiment_id: str) -> Any:
    """Returns a parent's run, the one that goes on, wherever it is; None where it is not in the store yet.

    Args:
        client: The `mlflow.MlflowClient`.
        parent_id: Its bundle's id.
        experiment_id: The experiment where it is looked for first.
    """
    for tag, value in ((RUN_TAG, parent_id), (adopted_tag(parent_id), "true")):
        found = find(client, [experiment_id], tag, value, 1)
        if found:
            return newest(client, found[0])
    recent = client.search_experiments(max_results=EXPERIMENTS_MOST, order_by=["last_update_time DESC"])
    others = [str(each.experiment_id) for each in recent if str(each.experiment_id) != experiment_id]
    for tag, value in ((RUN_TAG, parent_id), (adopted_tag(parent_id), "true")) if others else ():
        found = find(client, others, tag, value, 1)
        if found:
            return newest(client, found[0])
    return None


def adopted_tag(run_id: str) -> str:
    """Returns the tag by which a bundle is known that goes on with a run which several have gone on with."""
    return f"{RUN_TAG}.{run_id}"


class Family:
    """One open run's ties to its parent and its children.

    Args:
        remote: The run.
        context: The run, as the core knows it.
    """

    def __init__(self, remote: RemoteRun, context: SinkContext) -> None:
        self._remote = remote
        self._context = context
        self._looked_at = time.monotonic()

    def take_in(self) -> None:
        """Nests the children that came before this run below it, and those of the run whose place it takes.

        Raises:
            TransientError: Not now.
            RefusedError: The store refuses it for some of them; the others are nested.
        """
        remote, earlier_id = self._remote, earlier_run_id(self._context)
        with asking(remote.uri):
            alone = find(remote.client, [remote.experiment_id], PARENT_TAG, self._context.run_id, _PAGE)
            below = [] if earlier_id is None else self._below(earlier_id)
        children = [child for child in alone if MLFLOW_PARENT_TAG not in child.data.tags]
        children += [child for child in below if PARENT_TAG in child.data.tags]  # the others are the user's own doing
        refused: RefusedError | None = None
        for child_id in (str(child.info.run_id) for child in children):
            if child_id != remote.id:
                try:
                    with asking(remote.uri):
                        remote.client.set_tag(child_id, MLFLOW_PARENT_TAG, remote.id)
                except RefusedError as error:
                    # A database refuses the second of two who set it at once: the child itself was faster.
                    with asking(remote.uri):
                        if remote.client.get_run(child_id).data.tags.get(MLFLOW_PARENT_TAG) in (None, earlier_id):
                            refused = error
        if refused is not None:
            raise refused

    def _below(self, run_id: str) -> list[Any]:
        return find(self._remote.client, [self._remote.experiment_id], MLFLOW_PARENT_TAG, run_id, _PAGE)

    def look(self, *, now: bool = False) -> None:
        """Nests the run below its parent's, where that has come, or was taken the place of. What fails is for later.

        Args:
            now: Whether to ask the store at once; otherwise only every `LOOK_EVERY_S` seconds, and until it is nested.
        """
        parent_id, remote = self._context.parent_id, self._remote
        nested_below = remote.tags.get(MLFLOW_PARENT_TAG)
        if parent_id is None:
            return
        if not now and (nested_below is not None or time.monotonic() - self._looked_at < LOOK_EVERY_S):
            return
        self._looked_at = time.monotonic()
        try:
            with asking(remote.uri):
                if nested_below is None:
                    parent = find_parent(remote.client, parent_id, remote.experiment_id)
                else:
                    parent = newest(remote.client, remote.client.get_run(nested_below))
            if parent is None or parent.info.run_id == nested_below:
                return
            if str(parent.info.experiment_id) != str(remote.experiment_id):
                self._context.ledger.warn(
                    f"MLflow nests runs within one experiment only: the parent {parent.info.run_id} is in experiment "
                    f"{parent.info.experiment_id}, this run in {remote.experiment_id}, so it is shown beside its parent"
                )
            remote.set_tags({MLFLOW_PARENT_TAG: str(parent.info.run_id)})
        except (TransientError, RefusedError, RejectedError):
            _log.warning("run %s is not nested below its parent now", remote.id, exc_info=True)
