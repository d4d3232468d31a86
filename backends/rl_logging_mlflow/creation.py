"""Creating the run, once: MLflow's request for it is none to repeat, and its answer can be lost, or come very late.

A search for the run before it is created is not enough, since an earlier request may still be on its way. So each run
that is created carries a token of the run directory's as a tag. The first one whose answer is noted, or that a search
finds, is the run. Any other that bears the token is empty, nobody's, and deleted: by whoever gets its answer, or is
found when the next one is created or the run ends. One that comes later still is `latecomers`' affair.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from rl_logging.sinks import SinkContext
from rl_logging_mlflow import kept_file, latecomers
from rl_logging_mlflow.latecomers import CREATION_TAG
from rl_logging_mlflow.options import Options
from rl_logging_mlflow.remote import NOT_FOUND, RefusedError, RemoteRun, asking

_noting = threading.Lock()


class _Noted(msgspec.Struct, kw_only=True):
    """What the run directory knows of the run's creation.

    Attributes:
        token: What the tag says.
        requests: How many were sent.
        experiments: Where to.
        run: The run that is ours; None while there is none.
        made: The runs that are known to have come of them.
    """

    token: str
    requests: int = 0
    experiments: list[str] = []
    run: str | None = None
    made: list[str] = []


class Creation:
    """The creation of one run in one place.

    Args:
        context: The run.
        options: Where to.
    """

    def __init__(self, context: SinkContext, options: Options) -> None:
        place = (options.tracking_uri, options.experiment_id, options.experiment, options.parent_run_id, context.run_id)
        digest = hashlib.sha256(repr(place).encode()).hexdigest()[:10]
        self._path = context.run_dir / "sinks" / "mlflow" / f"creation-{digest}.json"
        self._context = context
        with _noting:
            self._run_before = self._read().run

    def create(self, client: Any, experiment_id: str, *, tags: dict[str, str], **fields: Any) -> Any:
        """Returns the run: a new one, or the one that became ours while this request was on its way."""
        with _noting:
            noted = self._read()
            noted.requests += 1
            if experiment_id not in noted.experiments:
                noted.experiments.append(experiment_id)
            kept_file.save(self._path, noted)
        run = client.create_run(experiment_id, tags={**tags, CREATION_TAG: noted.token}, **fields)
        ours = self._note(str(run.info.run_id))
        if ours == run.info.run_id:
            return run
        client.delete_run(run.info.run_id)
        return client.get_run(ours)

    def pick(self, run_ids: Sequence[str]) -> str:
        """Returns which of the runs that a search has found is ours, and notes it."""
        with _noting:
            noted = self._read()
        return noted.run if noted.run is not None and noted.run in run_ids else self._note(run_ids[0])

    def delete_late_ones(self, remote: RemoteRun, *, at_end: bool = False) -> None:
        """Deletes the runs that were created for us and are not `remote`; nothing where one request was enough.

        Args:
            remote: The run.
            at_end: Whether nobody of this run will look any more: what may still come is left to others then.

        Raises:
            TransientError: Not now.
        """
        with _noting:
            noted = self._read()
        if noted.requests < 2:
            return
        try:
            with asking(remote.uri):
                late = latecomers.late_ones(remote, remote.id, noted.experiments, noted.token)
                unanswered = self._note_made([remote.id, *(str(run.info.run_id) for run in late)])
                for run in late:
                    latecomers.delete(remote, run)
            if at_end and unanswered and latecomers.may_come(remote.uri):
                latecomers.leave_to_others(remote)
        except RefusedError as error:
            if error.status != NOT_FOUND:  # else it is gone already
                self._context.ledger.warn(f"MLflow did not delete a run that was created in vain: {error}")

    def _note(self, run_id: str) -> str:
        """Notes that a run is ours; returns the one that is, where another was noted meanwhile."""
        with _noting:
            noted = self._read()
            if noted.run in (self._run_before, None):
                noted.run = run_id
            _add(noted, [run_id])
            kept_file.save(self._path, noted)
            return noted.run or run_id

    def _note_made(self, run_ids: Sequence[str]) -> int:
        """Notes that runs have come of our requests; returns of how many requests none is known."""
        with _noting:
            noted = self._read()
            if _add(noted, run_ids):
                kept_file.save(self._path, noted)
            return noted.requests - len(noted.made)

    def _read(self) -> _Noted:
        return kept_file.load(self._path, _Noted, self._context.ledger) or _Noted(token=uuid.uuid4().hex)


def _add(noted: _Noted, run_ids: Sequence[str]) -> bool:
    """Adds to the runs that were made; returns whether any is new."""
    new = [run_id for run_id in run_ids if run_id not in noted.made]
    noted.made += new
    return bool(new)
