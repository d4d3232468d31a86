"""The sink's options: checked and completed in the training process, without the SDK."""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from rl_logging.hookspecs import Surroundings
from rl_logging_mlflow import uris

_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Resolved options.

    Attributes:
        tracking_uri: Where the store is; absolute.
        experiment: The experiment's name, created where it is missing; None with `experiment_id`, `run_id` or, for the
            parent's own experiment, `parent_run_id`.
        experiment_id: The experiment's id instead of its name.
        artifact_location: Where a newly created experiment keeps its artifacts; None leaves it to the store.
        artifact_path: Where, within the run's artifacts, the logged files go: a path with ``{name}`` and perhaps
            ``{step}`` in it; None: ``artifacts/{name}/step_{step}``.
        run_name: The run's name in MLflow; None takes the logger's display name.
        run_id: A run to go on with, which is never ended from here.
        parent_run_id: The run to nest below.
        tags: Tags beside those of the run itself.
        cwd: The training process's working directory, where MLflow itself would put local artifacts.
    """

    tracking_uri: str
    experiment: str | None = None
    experiment_id: str | None = None
    artifact_location: str | None = None
    artifact_path: str | None = None
    run_name: str | None = None
    run_id: str | None = None
    parent_run_id: str | None = None
    tags: dict[str, str] = {}
    cwd: str | None = None

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Options:
        """Returns the options a plugin's hook was given; what `resolve` has not seen gets MLflow's defaults."""
        given = {key: value for key, value in options.items() if value is not None}
        given.setdefault("tracking_uri", uris.default_tracking_uri(Path.cwd()))
        given["tags"] = tags_of(given.get("tags"))
        return msgspec.convert(given, cls)


_TEXT_KEYS = (
    *("tracking_uri", "experiment", "artifact_location", "artifact_path", "run_name", "run_id", "parent_run_id"),
)
KEYS = (*_TEXT_KEYS, "experiment_id", "tags")


def tags_of(tags: Any) -> dict[str, str]:
    """Returns tags as MLflow has them, text by key; a bare label ``a`` becomes ``a = "true"``, to be filtered by."""
    if isinstance(tags, Mapping):
        return {str(key): value if isinstance(value, str) else str(value) for key, value in tags.items()}
    return dict.fromkeys(map(str, tags or ()), "true")


def problems(name: str, options: Mapping[str, Any]) -> list[str]:
    """Returns what is wrong with the user's options, a sentence for each."""
    found = [message for key in options if (message := _unknown(name, key))]
    for key in _TEXT_KEYS:
        value = options.get(key)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            found.append(f"{name}.{key}: {value!r} is not a non-empty text")
    found += _wrong_values(name, options)
    found += _contradictions(name, options)
    if importlib.util.find_spec("mlflow") is None:
        found.append(f"the '{name}' sink needs mlflow: pip install 'rl-logging[mlflow]'")
    return found


def _unknown(name: str, key: object) -> str | None:
    if key in KEYS:
        return None
    near = difflib.get_close_matches(str(key), KEYS, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return f"{name}.{key}: there is no such key{hint}; it may be one of {', '.join(sorted(KEYS))}"


def _wrong_values(name: str, options: Mapping[str, Any]) -> list[str]:
    found = []
    experiment_id = options.get("experiment_id")
    if experiment_id is not None and (isinstance(experiment_id, bool) or not isinstance(experiment_id, str | int)):
        found.append(f"{name}.experiment_id: {experiment_id!r} is not an experiment's id (a text or a whole number)")
    for key in ("run_id", "parent_run_id"):
        value = options.get(key)
        if isinstance(value, str) and value.strip() and not _RUN_ID.fullmatch(value):
            found.append(f"{name}.{key}: {value!r} is not a run's id (letters, digits, '_' and '-', 256 at most)")
    path = options.get("artifact_path")
    if isinstance(path, str) and path.strip() and not _is_path_pattern(path):
        found.append(
            f"{name}.artifact_path: {path!r} is not a relative path with {{name}}, and perhaps {{step}}, in it, such "
            f"as 'artifacts/{{name}}/step_{{step}}'"
        )
    uri = options.get("tracking_uri")
    if isinstance(uri, str):
        if uri.lower().startswith("sqlite:") and (":memory:" in uri or uri.rstrip("/").lower() == "sqlite:"):
            found.append(
                f"{name}.tracking_uri: {uri!r} is a database in memory, which would be gone with the process that "
                f"delivers to it; name a file, such as 'sqlite:///mlflow.db'"
            )
        elif uri.lower().startswith("sqlite:") and uris.sqlite_path(uri) is None:
            found.append(f"{name}.tracking_uri: {uri!r} is not 'sqlite:///' and the path of a file")
        elif uris.is_http(uri) and not urlsplit(uri).netloc:
            found.append(f"{name}.tracking_uri: {uri!r} names no host")
    tags = options.get("tags")
    if isinstance(tags, Mapping):
        found += [
            f"{name}.tags.{key}: {value!r} is not a text, number or truth value"
            for key, value in tags.items()
            if not isinstance(value, str | int | float)
        ]
    elif tags is not None and not (isinstance(tags, Sequence) and _only_texts(tags)):
        found.append(f"{name}.tags: {tags!r} is neither a mapping of texts nor a list of texts")
    return found


def _is_path_pattern(path: str) -> bool:
    rest = path.replace("{name}", "").replace("{step}", "")
    absolute = path.startswith("/") or ".." in path.split("/")
    return "{name}" in path and not absolute and not {"{", "}"} & set(rest)


def _only_texts(values: Sequence[object]) -> bool:
    return not isinstance(values, str) and all(isinstance(value, str) for value in values)


def _contradictions(name: str, options: Mapping[str, Any]) -> list[str]:
    given = {key for key, value in options.items() if value is not None}
    found = []
    if {"experiment", "experiment_id"} <= given:
        found.append(f"{name}.experiment_id: give either it or {name}.experiment, not both")
    if "run_id" in given:
        found += [
            f"{name}.{key}: means nothing beside {name}.run_id, which goes on with a run that exists"
            for key in ("experiment", "experiment_id", "parent_run_id", "artifact_location", "run_name")
            if key in given
        ]
    return found


def resolve(name: str, options: Mapping[str, Any], surroundings: Surroundings) -> dict[str, Any]:
    """Completes the user's options so that they mean the same in another process, directory and time.

    The chain for each is MLflow's own: what is given, what is active in this process (if mlflow is imported in it),
    the environment, the default. An experiment is given by the user's project too.
    """
    given = {key: value for key, value in options.items() if value is not None}
    environ, cwd = surroundings.environ, surroundings.cwd
    notices: list[str] = []

    uri = given.get("tracking_uri") or _imported_uri() or environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        uri = uris.default_tracking_uri(cwd)
        if uris.is_file_store(uri):
            notices.append(
                f"'{cwd / 'mlruns'}' holds earlier MLflow runs, so MLflow's default is that folder; "
                f"set {name}.tracking_uri to sqlite:///mlflow.db to log into a database instead"
            )
    resolved: dict[str, Any] = {**given, "tracking_uri": uris.absolute_tracking_uri(uri, cwd), "cwd": str(cwd)}
    resolved["tags"] = tags_of(given.get("tags"))
    if "experiment_id" in given:
        resolved["experiment_id"] = str(given["experiment_id"])
    if "artifact_location" in given and uris.is_file_store(given["artifact_location"]):
        resolved["artifact_location"] = uris.absolute_tracking_uri(given["artifact_location"], cwd)

    # A run below another one is none that is there already: that is, if any, its parent's.
    if "run_id" not in given and "parent_run_id" not in given and surroundings.parent_id is None:
        run_id, origin = _run_to_adopt(given, resolved["tracking_uri"], surroundings)
        if run_id is not None:
            resolved["run_id"] = run_id
            notices.append(f"MLflow: goes on with run {run_id} ({origin}), and leaves ending it to its owner")
    if "run_id" in resolved:
        for key in ("experiment", "experiment_id", "artifact_location", "run_name"):
            resolved.pop(key, None)
    elif "experiment" not in given and "experiment_id" not in given:
        _complete_experiment(resolved, surroundings)
    if uris.is_sql(resolved["tracking_uri"]) and importlib.util.find_spec("sqlalchemy") is None:
        notices.append(
            f"MLflow: {uris.without_credentials(resolved['tracking_uri'])} is a database, which mlflow-skinny alone "
            f"cannot open: pip install mlflow, or set {name}.tracking_uri to a server's address"
        )
    if notices:
        resolved["notices"] = notices
    return resolved


def _complete_experiment(resolved: dict[str, Any], surroundings: Surroundings) -> None:
    environ = surroundings.environ
    if surroundings.project:
        resolved["experiment"] = surroundings.project
    elif "parent_run_id" in resolved:
        return  # Runs nest within one experiment only: the parent's is looked up when the sink opens.
    elif environ.get("MLFLOW_EXPERIMENT_NAME"):
        resolved["experiment"] = environ["MLFLOW_EXPERIMENT_NAME"]
    elif environ.get("MLFLOW_EXPERIMENT_ID"):
        resolved["experiment_id"] = environ["MLFLOW_EXPERIMENT_ID"]
    else:
        resolved["experiment"] = "Default"


def _imported_uri() -> str | None:
    """Returns the tracking URI the user's own mlflow logs to, None where mlflow is not imported."""
    get_tracking_uri = getattr(sys.modules.get("mlflow"), "get_tracking_uri", None)
    return str(get_tracking_uri()) if get_tracking_uri is not None else None


def _run_to_adopt(given: Mapping[str, Any], tracking_uri: str, surroundings: Surroundings) -> tuple[str | None, str]:
    """Returns the id of a run that is already there for this process, and who says so."""
    active_run = getattr(sys.modules.get("mlflow"), "active_run", None)
    run = active_run() if active_run is not None else None
    # A run that is active at another store than the one asked for is not the one meant.
    if run is not None and uris.absolute_tracking_uri(str(_imported_uri()), surroundings.cwd) == tracking_uri:
        return str(run.info.run_id), "active in this process"
    run_id = surroundings.environ.get("MLFLOW_RUN_ID")
    if run_id and "tracking_uri" in given and _other_store(tracking_uri, surroundings):
        return None, ""
    return run_id or None, "MLFLOW_RUN_ID"


def _other_store(tracking_uri: str, surroundings: Surroundings) -> bool:
    named = surroundings.environ.get("MLFLOW_TRACKING_URI")
    return bool(named) and uris.absolute_tracking_uri(str(named), surroundings.cwd) != tracking_uri
