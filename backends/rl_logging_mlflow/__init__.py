"""The MLflow sink of rl_logging: the plugin's hooks.

Importing this imports no mlflow: the hooks that run in the training process look at options, at the environment and
at `sys.modules`, and only `rl_logging_make_sink`, in the delivery process, leads to the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_logging.hookspecs import Surroundings, hookimpl
from rl_logging.sinks import Sink, SinkContext
from rl_logging.stores import Store
from rl_logging_mlflow import options as _options
from rl_logging_mlflow.locations import NAME, locate
from rl_logging_mlflow.uris import look_command, without_credentials


@hookimpl
def rl_logging_check_options(name: str, options: Mapping[str, Any]) -> list[str]:
    """Says what is wrong with the options, and that mlflow is missing where it is."""
    return _options.problems(name, options)


@hookimpl
def rl_logging_resolve_options(name: str, options: Mapping[str, Any], surroundings: Surroundings) -> dict[str, Any]:
    """Completes the options from this process, its environment and MLflow's own defaults."""
    return _options.resolve(name, options, surroundings)


@hookimpl
def rl_logging_destination(options: Mapping[str, Any]) -> str:
    """Names the store and, within it, the run or the experiment."""
    target = _options.Options.read(options)
    where = without_credentials(target.tracking_uri)
    if target.run_id is not None:
        return f"{where} run {target.run_id}"
    if target.experiment_id is not None:
        return f"{where} experiment #{target.experiment_id}"
    if target.experiment is not None:
        return f"{where} experiment {target.experiment}"
    return f"{where} beside run {target.parent_run_id}" if target.parent_run_id is not None else where


@hookimpl
def rl_logging_look_command(options: Mapping[str, Any], state: Mapping[str, Any]) -> str | None:
    """Gives ``mlflow ui ...`` for a local store, the run's URL for a server."""
    return look_command(_options.Options.read(options).tracking_uri, state.get("url"))


@hookimpl
def rl_logging_make_sink(context: SinkContext, options: Mapping[str, Any]) -> Sink:
    """Makes the sink; mlflow itself is imported when it opens."""
    import importlib.util

    if importlib.util.find_spec("mlflow") is None:
        raise ImportError("the 'mlflow' sink needs mlflow: pip install 'rl-logging[mlflow]'")
    from rl_logging_mlflow.sink import MlflowSink

    return MlflowSink(context, _options.Options.read(options))


@hookimpl
def rl_logging_open_store(location: str) -> Store | None:
    """Opens a tracking URI, ``mlflow`` for MLflow's default, a SQLite file, or a file store's folder."""
    import importlib.util

    if importlib.util.find_spec("mlflow") is None:
        if location.partition(":")[0] != NAME:
            return None
        raise ImportError("reading from MLflow needs mlflow: pip install 'rl-logging[mlflow]'")
    uri = locate(location, Path.cwd())
    if uri is None:
        return None
    from rl_logging_mlflow.reading import MlflowStore

    return MlflowStore(uri)
