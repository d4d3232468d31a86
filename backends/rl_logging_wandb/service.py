"""wandb-core, the SDK's background process: one for all runs of this process, ended after the last of ours."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import threading

import wandb
from wandb.sdk import wandb_setup

from rl_logging.sinks import TransientError

_log = logging.getLogger("rl_logging.wandb")

TEARDOWN_S = 20.0

_lock = threading.Lock()
_open_runs: set[str] = set()
_ours = False

_VARIABLE = "WANDB_SERVICE"


def acquire(run_id: str) -> None:
    """Notes that a run is about to be opened.

    Raises:
        TransientError: A run of that id is open in this process; wandb-core tells runs apart by their ids alone.
    """
    global _ours
    with _lock:
        if run_id in _open_runs:
            raise TransientError(f"the W&B run {run_id} is open in this process, for another destination", 5.0)
        token = os.environ.get(_VARIABLE)
        if token is not None and not _belongs_to_this_process(token):
            # Inherited from the training process: its service ends with it, and with that our runs would.
            del os.environ[_VARIABLE]
            token = None
        if not _open_runs:
            _ours = token is None
        _open_runs.add(run_id)


def release(run_id: str) -> None:
    """Notes that a run was closed; after the last one, the service that we started ends.

    It stays where the user has a run of their own in this process.
    """
    with _lock:
        _open_runs.discard(run_id)
        if _open_runs or not _ours or _users_run_is_active():
            return
        process = _process()
        # The SDK waits for wandb-core without a bound; a wandb-core that does not end has nothing left to write.
        timer = threading.Timer(TEARDOWN_S, process.kill) if process is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            wandb.teardown()
        except SystemExit as error:
            # What the SDK does with its service's exit code; ending this process is not its business.
            _log.warning("wandb-core ended with %s", error.code)
        except ConnectionError:
            # It does not listen any more. Most likely it is dead; a child of ours it is in any case.
            if process is not None:
                process.kill()
                process.wait()
        finally:
            if timer is not None:
                timer.cancel()


def _users_run_is_active() -> bool:
    return wandb.run is not None and not wandb.run.disabled


def _process() -> subprocess.Popen[bytes] | None:
    """Returns the service's process, where the SDK still keeps it where it does now."""
    connection = getattr(wandb_setup.singleton(), "_connection", None)
    process = getattr(getattr(connection, "_proc", None), "_process", None)
    return process if isinstance(process, subprocess.Popen) else None


def _belongs_to_this_process(token: str) -> bool:
    found = re.match(r"\d+-(\d+)-", token)
    return found is not None and int(found[1]) == os.getpid()
