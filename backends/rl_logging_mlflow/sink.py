"""The sink: one bundle delivered to one MLflow run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from rl_logging.media import MediaError
from rl_logging.records import Artifact, Config, Environment, Image, Labels, Metrics, Model, Record, RunStatus, Video
from rl_logging.sinks import RejectedError, SinkContext
from rl_logging_mlflow import uris
from rl_logging_mlflow.artifacts import Artifacts
from rl_logging_mlflow.creation import Creation
from rl_logging_mlflow.family import Family
from rl_logging_mlflow.files import FilesWriter
from rl_logging_mlflow.labels import write_labels
from rl_logging_mlflow.memory import Memory
from rl_logging_mlflow.metrics import MetricsWriter
from rl_logging_mlflow.opening import open_run
from rl_logging_mlflow.options import Options
from rl_logging_mlflow.params import ConfigWriter
from rl_logging_mlflow.remote import RefusedError, RemoteRun, asking

_log = logging.getLogger("rl_logging.mlflow")


class MlflowSink:
    """Delivers through an `MlflowClient` with an explicit run id, synchronously: what `write` took, MLflow has.

    A batch's metrics go first and together, then its other records in their order. What was stored of a batch that
    failed half-way is not sent again by this object; after a crash it is, and every record is such that a repeat leaves
    the same (metrics: on database-backed stores and servers; the file store keeps repeated points).

    Args:
        context: The run.
        options: Where to.
    """

    accepts: frozenset[type[Record]] = frozenset({Metrics, Config, Image, Video, Model, Artifact, Environment, Labels})

    def __init__(self, context: SinkContext, options: Options) -> None:
        self._context = context
        self._options = options
        self._adopted = options.run_id is not None
        self._remote: RemoteRun | None = None
        self._confirmed = 0
        self._metrics_done = 0
        self._others_done = 0
        self._last_time = 0.0
        self._rejected: list[tuple[Record, str]] = []

    def open(self, state: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Opens the run known from `state`, the one to adopt, the one created before a crash, or a new one.

        Raises:
            TransientError: The store cannot be reached.
            RejectedError: It refuses: credentials, a deleted run or experiment, a store this SDK cannot open.
        """
        context, options = self._context, self._options
        known_id = str(state["id"]) if state is not None and "id" in state else None
        self._creation = Creation(context, options)
        remote = open_run(context, options, self._creation, known_id)
        self._family = Family(remote, context)
        self._join_family(known_id)
        memory = Memory(context.run_dir / "sinks", remote.id, context.ledger)
        artifacts = Artifacts(remote, context.ledger)
        self._metrics = MetricsWriter(remote, memory, context.ledger)
        self._config = ConfigWriter(remote, artifacts, memory, context.ledger)
        self._files = FilesWriter(
            context.run_dir,
            context.run_id,
            remote,
            artifacts,
            memory,
            context.ledger,
            adopted=self._adopted,
            artifact_path=options.artifact_path,
        )
        self._remote = remote
        if known_id is not None and uris.is_file_store(options.tracking_uri):
            context.ledger.warn(
                "MLflow's file store keeps every point it is sent: those sent but not yet noted when delivery last "
                "ended are there twice; a database (sqlite:///mlflow.db) keeps one"
            )
        return {
            "id": remote.id,
            "url": uris.run_url(options.tracking_uri, remote.experiment_id, remote.id),
            "experiment_id": remote.experiment_id,
            "adopted": self._adopted,
        }

    def write(self, batch: Sequence[Record], /) -> None:
        """Stores the batch.

        Raises:
            TransientError: Not now; hand the batch over again.
            RejectedError: These records, or parts of them, were refused; all else is stored.
        """
        if self._remote is None:
            raise RuntimeError("the sink is not open")
        metrics = [record for record in batch if isinstance(record, Metrics) and record.seq > self._metrics_done]
        if metrics:
            self._rejected += self._metrics.write(metrics)
            self._metrics_done = metrics[-1].seq
        for record in batch:
            if not isinstance(record, Metrics) and record.seq > self._others_done:
                self._write_one(record)
                self._others_done = record.seq
            if not self._rejected:
                self._confirmed = max(self._confirmed, record.seq)
            self._last_time = max(self._last_time, record.time)
        self._family.look()
        rejected, self._rejected = self._rejected, []
        if batch:
            self._confirmed = max(self._confirmed, batch[-1].seq)
        if rejected:
            raise RejectedError(_summary(rejected), _distinct(rejected))

    def confirmed(self) -> int:
        """Returns the last `seq` written: writing waits for the store."""
        return self._confirmed

    def close(self, status: RunStatus | None, /) -> None:
        """Ends the run, at the time of its last record, unless it is adopted or `status` is None.

        Raises:
            TransientError: Not now; call again.
        """
        remote = self._remote
        if remote is None:
            return
        if status is not None and not self._adopted:
            self._family.look(now=True)
            self._creation.delete_late_ones(remote, at_end=True)
            try:
                with asking(remote.uri):
                    remote.client.set_terminated(remote.id, status=status.upper(), end_time=self._end_ms(remote))
            except RefusedError as error:
                self._context.ledger.warn(f"MLflow did not take the run's end ({status}): {error}")
        self._remote = None

    def _join_family(self, known_id: str | None) -> None:
        if known_id is not None:
            self._family.look(now=True)
            return
        try:
            self._family.take_in()
        except RefusedError as error:
            self._context.ledger.warn(f"MLflow did not nest the runs below this one: {error}")

    def _end_ms(self, remote: RemoteRun) -> int | None:
        """Returns the time of the last record in milliseconds; None, which is now, where nothing was ever written."""
        if self._last_time:
            return int(self._last_time * 1000)
        run = remote.client.get_run(remote.id)
        stamps = [metric.timestamp for metric in run.data._metric_objs] if run.data.metrics else []
        return max(stamps, default=None)

    def _write_one(self, record: Record) -> None:
        assert self._remote is not None
        try:
            if isinstance(record, Config):
                self._config.write(record)
            elif isinstance(record, Image):
                self._files.image(record)
            elif isinstance(record, Video):
                self._files.video(record)
            elif isinstance(record, Model):
                self._files.model(record)
            elif isinstance(record, Artifact):
                self._files.artifact(record)
            elif isinstance(record, Environment):
                self._files.environment(record)
            elif isinstance(record, Labels):
                write_labels(record, self._remote, self._context.ledger, frozenset(self._options.tags))
        except (RefusedError, MediaError, FileNotFoundError) as error:
            _log.debug("refused: %r", record, exc_info=True)
            self._rejected.append((record, f"{record.kind}: {error}"))


def _distinct(rejected: Sequence[tuple[Record, str]]) -> list[Record]:
    return list({record.seq: record for record, _ in rejected}.values())


def _summary(rejected: Sequence[tuple[Record, str]]) -> str:
    first = rejected[0][1]
    return first if len(rejected) == 1 else f"{first} (and {len(rejected) - 1} more)"
