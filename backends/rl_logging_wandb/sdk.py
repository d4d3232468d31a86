"""What is used of W&B's SDK beyond its public face, all of it, and what is done where a newer SDK lacks it.

The public SDK ends a run whenever it lets go of it, tells nobody under which name it uploads a picture, and gives no
way to set another process's commit. `PRIVATE` lists what is used instead. Where something is gone, the sink does
without, as well as that goes, and says so once.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import wandb
from wandb.sdk import wandb_setup

from rl_logging_wandb.version import installed

PRIVATE: Final[Mapping[str, str]] = {
    "Run._is_finished": "letting go of a run: it logs no more",
    "Run._wl": "letting go of a run: the library's record of it",
    "Run._run_status_checker": "letting go of a run: its thread",
    "Run._run_messages": "letting go of a run: its thread",
    "Run._teardown_hooks": "letting go of a run: its signal and log handlers",
    "Run._wl.remove_active_run": "letting go of a run",
    "Run._wl.assert_service": "letting go of a run",
    "Run._wl.assert_service().inform_finish": "letting go of a run: wandb-core writes what it has and forgets it",
    "Run._settings.git_commit": "the training process's commit",
    "Run._settings.git_remote_url": "the training process's repository",
    "Media.bind_to_run": "naming a media file by its step, so that a repeat has the same name",
    "Media._path": "the file that was uploaded for a picture or video",
    "Artifact.manifest.entries[].local_path": "which files of an artifact were refused",
    "Settings.log_internal": "wandb-core's log, which tells of uploads that failed",
    "wandb_setup.singleton()._connection._proc._process": "wandb-core's process, to see its death and bound its end",
    "wandb.sdk.mailbox.HandleAbandonedError": "the error of a wandb-core that is gone",
    "wandb.sdk.mailbox.MailboxClosedError": "the error of a wandb-core that is gone",
    "wandb.proto.wandb_internal_pb2.Record": "what an offline run's file holds",
    "wandb.proto.wandb_api_pb2.ApiErrorResponse.http_status": "whether the server refuses, or fails",
}
"""Each private name, and what it is for. A test asks the installed SDK for every one of them."""

LEFT_OPEN_EXIT_CODE: Final = 255
"""How a run ends that is to go on later, where it cannot be left open: as one that was interrupted."""

try:
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError
except ImportError:  # a newer SDK; then only the connection's own errors say that wandb-core is gone
    SERVICE_GONE: tuple[type[Exception], ...] = (ConnectionError,)
else:
    SERVICE_GONE = (ConnectionError, HandleAbandonedError, MailboxClosedError)

Warn = Callable[[str], None]


def let_go(run: wandb.Run, warn: Warn) -> None:
    """Ends the SDK's part of `run` and sends no exit record: W&B takes it for one that may go on."""
    try:
        library, hooks = run._wl, list(run._teardown_hooks)
        checker, messages = run._run_status_checker, run._run_messages
        if library is None:
            return
        remove, inform = library.remove_active_run, library.assert_service().inform_finish
    except AttributeError as error:
        warn(_told(error, "a run that is to go on later shows as crashed until then"))
        run.finish(exit_code=LEFT_OPEN_EXIT_CODE)
        return
    run._is_finished = True
    remove(run)
    if checker is not None:
        checker.stop()
    if messages is not None:
        # Its last message comes with the exit that is not sent.
        messages.stop(timeout=0)
    for hook in hooks:
        hook.call()
    inform(run_id=run.id)


def set_commit(run: wandb.Run, commit: str, remote: str | None, warn: Warn) -> None:
    """Sets the commit that W&B shows for the run."""
    # It comes from the run's settings, which the SDK fills in at the start from its own directory; setting the tags to
    # what they are sends the run's fields again. The public `settings` is a copy.
    try:
        run._settings.git_commit = commit
        run._settings.git_remote_url = remote
    except (AttributeError, ValueError) as error:
        warn(_told(error, "the run's page does not show the commit; wandb-metadata.json has it"))
        return
    run.tags = tuple(run.tags or ())


def bind(media: Any, run: wandb.Run, key: str, step: int, warn: Warn) -> Path | None:
    """Puts a media object's file where `run` uploads it from, under a name that follows from `key` and `step`.

    Returns:
        The file; None where the SDK does not tell.
    """
    try:
        media.bind_to_run(run, key, step)
        return Path(media._path)
    except AttributeError as error:
        warn(_told(error, "pictures and videos count as delivered when their row is, their files are not looked for"))
        return None


def http_status(error: Exception) -> int | None:
    """Returns the HTTP status that an error of the public API stands for; None where it does not tell."""
    cause = getattr(error, "exc", None) or error
    return getattr(getattr(cause, "response", None), "http_status", None) or None


def local_files(artifact: wandb.Artifact) -> list[str]:
    """Returns the local files of an artifact, none where the SDK does not tell."""
    entries = getattr(getattr(artifact, "manifest", None), "entries", None) or {}
    return [str(path) for entry in entries.values() if (path := getattr(entry, "local_path", None))]


def core_log(run: wandb.Run) -> Path:
    """Returns the log that wandb-core writes for `run`; where the SDK does not tell, a file that is not there."""
    found = getattr(run.settings, "log_internal", None)
    return Path(found) if found else Path(run.dir, "no-log")


def core_process() -> subprocess.Popen[bytes] | None:
    """Returns wandb-core's process if this process started it, where the SDK still keeps it where it does now."""
    connection = getattr(wandb_setup.singleton(), "_connection", None)
    process = getattr(getattr(connection, "_proc", None), "_process", None)
    return process if isinstance(process, subprocess.Popen) else None


def _told(error: Exception, consequence: str) -> str:
    return f"wandb {installed() or ''} is not the SDK this sink knows ({error}): {consequence}"
