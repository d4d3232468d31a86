"""Runs that come into being after the end of the run they were meant for, of a request that was given up long before.

Nobody of that run looks any more. So a run that ends with such requests unanswered says so in a tag, and for an hour
whoever opens another run of the experiment deletes what has come of them.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from rl_logging_mlflow import uris
from rl_logging_mlflow.family import find
from rl_logging_mlflow.remote import RefusedError, RemoteRun, asking

_log = logging.getLogger("rl_logging.mlflow")

CREATION_TAG: Final = "rl_logging.creation"
"""Which run directory's a run is, whose token it has for a value."""
UNANSWERED_TAG: Final = "rl_logging.creation_unanswered"
"""When a run ended for which requests were unanswered, in seconds since the epoch."""
LOOKED_FOR_S: Final = 3600.0
"""For how long after that: no server, and nothing before it, holds a request for longer."""
_RUNS_MOST: Final = 20
_LATE_MOST: Final = 100


def may_come(uri: str) -> bool:
    """Whether a request outlives the process that made it: where a server is asked."""
    return not (uris.is_sql(uri) or uris.is_file_store(uri))


def late_ones(remote: RemoteRun, ours: str, experiment_ids: list[str], token: str) -> list[Any]:
    """Returns the runs that bear the token of `ours` and are not it: as they were created, which are nobody's.

    A run that somebody made with all the tags of ours, to go on with it, began at another time.

    Args:
        remote: A run of the store.
        ours: The run's id.
        experiment_ids: Where to look.
        token: The token.
    """
    found = find(remote.client, experiment_ids, CREATION_TAG, token, _LATE_MOST)
    began = {run.info.start_time for run in found if run.info.run_id == ours}
    others = [run for run in found if run.info.run_id != ours and run.info.start_time in began]
    return [run for run in others if _is_as_created(remote, run)]


def _is_as_created(remote: RemoteRun, run: Any) -> bool:
    if run.info.status != "RUNNING" or run.data.metrics or run.data.params:
        return False
    try:
        return not remote.client.list_artifacts(run.info.run_id)
    except Exception:  # whatever an artifact store's client raises: in doubt it is somebody's
        _log.warning("run %s, which may have been created in vain, stays", run.info.run_id, exc_info=True)
        return False


def delete(remote: RemoteRun, run: Any) -> None:
    """Deletes a late run."""
    _log.info("run %s was created by a request that was given up, and is deleted", run.info.run_id)
    remote.client.delete_run(run.info.run_id)


def leave_to_others(remote: RemoteRun) -> None:
    """Notes with a run that ends that requests for it are unanswered.

    Raises:
        TransientError: Not now.
        RejectedError: The run is gone.
    """
    try:
        remote.set_tags({UNANSWERED_TAG: str(int(time.time()))})
    except RefusedError:
        _log.warning("run %s cannot say that it was asked for more than once", remote.id, exc_info=True)


def delete_those_of_others(remote: RemoteRun) -> None:
    """Deletes what has come late of the requests for other runs of the experiment. What fails is for the next one."""
    if not may_come(remote.uri):
        return
    try:
        with asking(remote.uri):
            told = f"tags.`{UNANSWERED_TAG}` LIKE '%'"
            for run in remote.client.search_runs([remote.experiment_id], filter_string=told, max_results=_RUNS_MOST):
                _look_after(remote, run)
    except Exception:
        # It is for the sake of others, and no reason to keep this run waiting.
        _log.warning("runs that were created in vain are not deleted now", exc_info=True)


def _look_after(remote: RemoteRun, ended: Any) -> None:
    token, since = ended.data.tags.get(CREATION_TAG), ended.data.tags[UNANSWERED_TAG]
    if token is None or not since.isdecimal():
        return
    for run in late_ones(remote, ended.info.run_id, [remote.experiment_id], token):
        delete(remote, run)
    if time.time() - int(since) > LOOKED_FOR_S:
        remote.client.delete_tag(ended.info.run_id, UNANSWERED_TAG)
