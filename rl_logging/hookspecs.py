"""The pluggy contract between rl_logging and the plugins that make sinks.

A plugin is a module (or object) with some of these hooks, marked with `hookimpl`. It is found through the entry
point group ``rl_logging.sinks``, whose entries' names are the sinks' names. Importing a plugin must not import the
SDK it serves: the checks run in the training process, only `rl_logging_make_sink` runs in the delivery process.

Every hook is called on the plugin that owns the sink's name only, so a plugin need not compare `name` unless it
serves several.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pluggy

from rl_logging.sinks import Sink, SinkContext
from rl_logging.stores import Store

PROJECT: Final = "rl_logging"
API_VERSION: Final = 1

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a plugin may use to complete its options, in the training process, before the run begins.

    Attributes:
        project: The user's ``rl_logging.project``, or None.
        cwd: The working directory that relative paths in options refer to.
        environ: The environment variables.
        run_name: The run's display name.
        run_id: The run's id.
        parent_id: The id of the run that this one is a part of; it must not take over a run that is there already.
    """

    project: str | None
    cwd: Path
    environ: Mapping[str, str]
    run_name: str = ""
    run_id: str = ""
    parent_id: str | None = None


@hookspec(firstresult=True)
def rl_logging_make_sink(name: str, context: SinkContext, options: Mapping[str, Any]) -> Sink | None:
    """Makes the sink; called in the delivery process, once per worker and attempt to open.

    Args:
        name: The sink's name in the settings.
        context: The run.
        options: As `rl_logging_resolve_options` returned them, credentials put back.

    Raises:
        ImportError: The SDK is missing; the user is told what to install.
    """


@hookspec(firstresult=True)
def rl_logging_check_options(name: str, options: Mapping[str, Any]) -> list[str] | None:
    """Says what is wrong with `options`, a sentence each (``wandb.mode: 'onlin' is not one of ...``).

    Called in the training process at construction, before `rl_logging_resolve_options`. Must not import the SDK;
    may look whether it is there (`importlib.util.find_spec`) and say what to install.
    """


@hookspec(firstresult=True)
def rl_logging_resolve_options(
    name: str, options: Mapping[str, Any], surroundings: Surroundings
) -> Mapping[str, Any] | None:
    """Completes `options` so that they mean the same in another process, directory and time.

    Defaults are taken from the environment, relative paths made absolute, what is active in this process adopted.

    Called in the training process at construction. Must not import the SDK; may look into `sys.modules`. Returns
    JSON values. A key ``notices`` (list of str) is taken out and shown to the user once.
    """


@hookspec(firstresult=True)
def rl_logging_destination(name: str, options: Mapping[str, Any]) -> str | None:
    """Names where resolved `options` lead, for a person: a tracking URI, a folder, a host and project.

    State, cursor and lock belong to (sink, destination), so two options that reach the same remote run must give the
    same text. Without this hook the options themselves are the destination.
    """


@hookspec(firstresult=True)
def rl_logging_look_command(name: str, options: Mapping[str, Any], state: Mapping[str, Any]) -> str | None:
    """Gives the shell command with which a person looks at the delivered run, or sends it on; None for none.

    Args:
        name: The sink's name.
        options: Resolved options.
        state: What the sink's `open` returned.
    """


@hookspec(firstresult=True)
def rl_logging_open_store(location: str) -> Store | None:
    """Opens a store to read from, where `location` names one that is this plugin's; None for any other.

    The one hook that is called on every installed plugin, in the order of their names. It is called in the process of
    whoever reads, never in training, and may import the SDK.

    Args:
        location: A URI, or ``<plugin>:<rest>``, or a folder.

    Raises:
        StoreError: It is this plugin's, and cannot be opened.
        ImportError: It is this plugin's, and the SDK is missing; the message says what to install.
    """
