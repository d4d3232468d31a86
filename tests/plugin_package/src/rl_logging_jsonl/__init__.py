"""The plugin: what rl_logging asks in the training process, and how delivery gets its sink."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_logging.hookspecs import Surroundings, hookimpl
from rl_logging.sinks import Sink, SinkContext


# begin check
@hookimpl
def rl_logging_check_options(name: str, options: Mapping[str, Any]) -> list[str]:
    """Says what is wrong with the options, a sentence each."""
    problems = []
    for key in options:
        if key not in ("folder", "files"):
            problems.append(f"{name}.{key}: there is no such option; known are folder, files")
    folder = options.get("folder")
    if folder is not None and not (isinstance(folder, str) and folder):
        problems.append(f"{name}.folder: got {folder!r}, may be the path of a folder")
    files = options.get("files", True)
    if not isinstance(files, bool):
        problems.append(f"{name}.files: got {files!r}, may be true or false")
    return problems


# end check
# begin resolve
@hookimpl
def rl_logging_resolve_options(name: str, options: Mapping[str, Any], surroundings: Surroundings) -> Mapping[str, Any]:
    """Completes the options, so that they mean the same in another process and another directory."""
    folder = options.get("folder") or surroundings.environ.get("RL_LOGGING_JSONL_FOLDER") or "jsonl_runs"
    return {"folder": str(surroundings.cwd / Path(folder).expanduser()), "files": options.get("files", True)}


@hookimpl
def rl_logging_destination(name: str, options: Mapping[str, Any]) -> str:
    """Names the place the options lead to."""
    return str(options["folder"])


# end resolve
# begin make
@hookimpl
def rl_logging_make_sink(name: str, context: SinkContext, options: Mapping[str, Any]) -> Sink:
    """Makes the sink, in the delivery process."""
    from rl_logging_jsonl.sink import JsonLinesSink

    return JsonLinesSink(context, Path(options["folder"]), files=options["files"])


# end make
# begin look
@hookimpl
def rl_logging_look_command(name: str, options: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """Gives the command with which a person looks at the delivered run."""
    return f"less {shlex.quote(state['url'])}"


# end look
