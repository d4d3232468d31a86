"""The Weights & Biases sink's plugin: the hooks alone; wandb itself is imported by `rl_logging_make_sink` only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_logging.hookspecs import Surroundings, hookimpl
from rl_logging.sinks import Sink, SinkContext
from rl_logging.stores import Store
from rl_logging_wandb import options as _options
from rl_logging_wandb import surroundings as _surroundings
from rl_logging_wandb import version


@hookimpl
def rl_logging_make_sink(name: str, context: SinkContext, options: Mapping[str, Any]) -> Sink:
    """Makes the sink; one that takes nothing where the mode is ``disabled``."""
    from rl_logging_wandb.disabled import DisabledSink

    if options.get("mode") == "disabled":
        return DisabledSink()
    from rl_logging_wandb.sink import WandbSink

    return WandbSink(context, options)


@hookimpl
def rl_logging_check_options(name: str, options: Mapping[str, Any]) -> list[str]:
    """Says what is wrong with `options`, or that wandb is not installed."""
    return _options.check(name, options)


@hookimpl
def rl_logging_resolve_options(name: str, options: Mapping[str, Any], surroundings: Surroundings) -> dict[str, Any]:
    """Completes `options` from W&B's environment variables and settings files, so that nothing is ever asked."""
    return _surroundings.resolve(name, options, surroundings)


@hookimpl
def rl_logging_destination(name: str, options: Mapping[str, Any]) -> str:
    """Names the offline folder, or the server and project."""
    return _surroundings.destination(options)


@hookimpl
def rl_logging_look_command(name: str, options: Mapping[str, Any], state: Mapping[str, Any]) -> str | None:
    """Gives ``wandb sync`` with every directory of an offline run, or the run's page."""
    return _surroundings.look_command(options, state)


@hookimpl
def rl_logging_open_store(location: str) -> Store | None:
    """Opens ``wandb:entity/project``, ``wandb:entity`` (all its projects), or ``wandb`` (the default entity's)."""
    kind, _, where = location.partition(":")
    if kind != "wandb":
        return None
    if version.installed() is None:
        raise ImportError("reading from W&B needs wandb: pip install 'rl-logging[wandb]'")
    entity, _, project = where.strip("/").partition("/")
    from rl_logging_wandb.reading import WandbStore

    return WandbStore(entity or None, project or None)
