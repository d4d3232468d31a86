"""Opening the store, finding the experiment, and finding or creating the run."""

from __future__ import annotations

import getpass
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from rl_logging.sinks import RejectedError, SinkContext
from rl_logging_mlflow import latecomers, tables, uris
from rl_logging_mlflow.creation import Creation
from rl_logging_mlflow.family import MLFLOW_PARENT_TAG, PARENT_TAG, RUN_TAG, adopted_tag, find, find_parent
from rl_logging_mlflow.names import clean_key
from rl_logging_mlflow.options import Options, tags_of
from rl_logging_mlflow.remote import NO_ACCESS, NOT_FOUND, RefusedError, RemoteRun, asking, missing_run, no_access
from rl_logging_mlflow.succession import link, succession_tags

LABELS_TAG = "rl_logging.tags"
MAX_TAG_LENGTH = 8000

_PAIR = re.compile(r"(?P<key>[^:\s][^:]*):(?!//)(?P<value>.+)", re.DOTALL)
_RESERVED = ("mlflow.", "rl_logging.")
_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})


def open_run(context: SinkContext, options: Options, creation: Creation, known_id: str | None) -> RemoteRun:
    """Returns the run to log to: the one known from an earlier life, the one to adopt, or a new one.

    Args:
        context: The run.
        options: Where to.
        creation: Creates it.
        known_id: The run's id in MLflow, where an earlier life has created it.

    Raises:
        TransientError: The store cannot be reached.
        RejectedError: It can, and will not have it.
    """
    uri = options.tracking_uri
    try:
        with asking(uri):
            database = uris.sqlite_path(uri)
            if database is not None:
                tables.probe(database)
            client = connect(options)
            adopted = options.run_id is not None
            run_id = options.run_id or known_id
            if run_id is None:
                home, parent = _home(client, context, options)
                # Created before it could be noted: the answer, or the process, was lost.
                found = find(client, home, RUN_TAG, context.run_id)
                run_id = creation.pick([str(run.info.run_id) for run in found]) if found else None
            if run_id is None:
                run = _create(client, context, options, creation, home[0], parent)
            else:
                run = _reopen(client, uri, run_id, go_on=context.live and not adopted)
            remote = RemoteRun(client, uri, run)
            if adopted:
                missing = {key: value for key, value in _tags(context, options).items() if key not in remote.tags}
                if remote.tags.get(RUN_TAG, context.run_id) != context.run_id:
                    missing[clean_key(adopted_tag(context.run_id))] = "true"
                remote.set_tags(missing | options.tags)
            link(remote, context)
            creation.delete_late_ones(remote)
            latecomers.delete_those_of_others(remote)
            return remote
    except RefusedError as error:
        if error.status in NO_ACCESS:
            raise RejectedError(no_access(uri, error)) from error
        raise RejectedError(f"{uris.without_credentials(uri)}: {error}") from error


def connect(options: Options) -> Any:
    """Returns a `mlflow.MlflowClient`; a SQLite database has its tables then.

    Raises:
        RejectedError: The installed MLflow cannot open such a store.
        TransientError: Another process is making the tables, for long.
    """
    from mlflow import MlflowClient

    uri = options.tracking_uri
    path = uris.sqlite_path(uri)
    if uris.is_sql(uri):
        try:
            from mlflow.store.tracking import sqlalchemy_store  # noqa: F401 - only whether it is there
        except ImportError as error:
            raise RejectedError(
                f"{uris.without_credentials(uri)} is a database, which mlflow-skinny alone cannot open "
                f"({error}): pip install mlflow, or set mlflow.tracking_uri to a server's address"
            ) from error
    if path is None:
        return MlflowClient(tracking_uri=uri)
    tables.ensure(uri, path, _artifact_root(options))
    return MlflowClient(tracking_uri=uri)


def _artifact_root(options: Options) -> Path:
    path = uris.sqlite_path(options.tracking_uri)
    root = path.parent if path is not None else Path(options.cwd) if options.cwd is not None else Path.cwd()
    return root / "mlruns"


def _experiment_id(client: Any, options: Options) -> str:
    if options.experiment_id is not None:
        return options.experiment_id
    parent = client.get_run(options.parent_run_id) if options.parent_run_id is not None else None
    if options.experiment is None and parent is not None:
        return str(parent.info.experiment_id)
    name = options.experiment or "Default"
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location(name, options)))
        except Exception as error:
            # Another process may have been faster; who lost the race takes the winner's.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise error
    if experiment.lifecycle_stage == "deleted":
        number = experiment.experiment_id
        raise RejectedError(
            f"the experiment '{name}' was deleted at {uris.without_credentials(options.tracking_uri)}, and its name is "
            f"still taken: bring it back (mlflow experiments restore --experiment-id {number}), remove it for good "
            f"(mlflow gc --experiment-ids {number}), or set mlflow.experiment to another name"
        )
    return str(experiment.experiment_id)


def _artifact_location(name: str, options: Options) -> str | None:
    if options.artifact_location is not None or not uris.is_sql(options.tracking_uri):
        return options.artifact_location
    folder = re.sub(r"[^\w.\-]+", "_", name).strip("._") or "experiment"
    return uris.file_uri(_artifact_root(options) / folder)


def _home(client: Any, context: SinkContext, options: Options) -> tuple[list[str], Any]:
    """Returns the experiments in which the run may be, the one for a new run first, and its parent's run or None."""
    own = _experiment_id(client, options)
    if options.parent_run_id is not None:
        return [own], client.get_run(options.parent_run_id)
    parent = find_parent(client, context.parent_id, own) if context.parent_id is not None else None
    # MLflow nests within one experiment only.
    home = own if parent is None else str(parent.info.experiment_id)
    return ([home] if home == own else [home, own]), parent


def _create(
    client: Any, context: SinkContext, options: Options, creation: Creation, experiment_id: str, parent: Any
) -> Any:
    if options.parent_run_id is not None and str(parent.info.experiment_id) != experiment_id:
        context.ledger.warn(
            f"MLflow nests runs within one experiment only: parent_run_id {options.parent_run_id} is in experiment "
            f"{parent.info.experiment_id}, this run in {experiment_id}, so it is shown beside its parent"
        )
    return creation.create(
        client,
        experiment_id,
        start_time=int(context.created * 1000),
        tags=_tags(context, options, parent) | options.tags,
        run_name=options.run_name or context.name,
    )


def _reopen(client: Any, uri: str, run_id: str, *, go_on: bool) -> Any:
    try:
        run = client.get_run(run_id)
    except Exception as error:
        if getattr(error, "get_http_status_code", lambda: None)() == NOT_FOUND:
            raise RejectedError(missing_run(run_id, uri, error)) from error
        raise
    if run.info.lifecycle_stage == "deleted":
        raise RejectedError(missing_run(run_id, uri, ValueError("its state is 'deleted'")))
    if go_on and run.info.status in _ENDED:
        client.update_run(run_id, status="RUNNING")
    return run


def _tags(context: SinkContext, options: Options, parent: Any = None) -> dict[str, str]:
    """Returns what MLflow and people should know of the run from its first moment."""
    program = context.program
    tags = {
        RUN_TAG: context.run_id,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": program.main or (program.argv[0] if program.argv else "") or program.executable,
        MLFLOW_PARENT_TAG: options.parent_run_id or (str(parent.info.run_id) if parent is not None else None),
        PARENT_TAG: context.parent_id,
        "mlflow.note.content": context.notes,
        "mlflow.user": _user() if context.live else None,
        "rl_logging.group": context.group,
        **label_tags(context.tags),
        **succession_tags(context),
    }
    return {clean_key(key): value[:MAX_TAG_LENGTH] for key, value in tags.items() if value is not None}


def label_tags(labels: tuple[str, ...]) -> dict[str, str]:
    """Returns the tags that stand for the user's labels: one each, to filter by, and all of them in one.

    ``key:value`` becomes the tag ``key = value``; any other label, one of several with one key, and a key that is
    MLflow's or ours, is ``label = true``.
    """
    pairs = [_PAIR.fullmatch(label) for label in labels]
    keys = Counter(pair["key"] for pair in pairs if pair)
    marks: dict[str, str] = {}
    for label, pair in zip(labels, pairs, strict=True):
        if pair and keys[pair["key"]] == 1 and not pair["key"].startswith(_RESERVED):
            marks[clean_key(pair["key"])] = pair["value"]
        else:
            marks |= {clean_key(key): value for key, value in tags_of([label]).items()}
    return marks | {LABELS_TAG: json.dumps(labels, ensure_ascii=False)} if labels else {}


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return None  # A user id without a name, as in containers.
