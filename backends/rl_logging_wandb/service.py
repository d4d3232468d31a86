"""wandb-core, the SDK's background process: one for all runs of this process, ended after the last of ours."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from rl_logging.sinks import TransientError
from rl_logging_wandb.sdk import core_process

_log = logging.getLogger("rl_logging.wandb")

TEARDOWN_S = 20.0
LINGER_S = 5.0

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
        process = core_process()
        if _open_runs and _ours and process is not None and process.poll() is not None:
            # It died under other runs, which will find out; until it is forgotten nobody can start another.
            _tear_down()
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
        if not _open_runs and _ours and not _users_run_is_active():
            _tear_down()


def kill() -> None:
    """Kills the wandb-core if we started it; its runs find out, and go on in a new one."""
    process = core_process()
    if process is not None and _ours:
        _log.warning("wandb-core (pid %d) is killed", process.pid)
        process.kill()
        process.wait()


def _tear_down() -> None:
    process = core_process()
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


def identity() -> dict[str, Any] | None:
    """Returns what tells the wandb-core of this process from all others, None where that cannot be known."""
    process = core_process()
    started = None if process is None else _started(process.pid)
    if process is None or started is None:
        return None
    return {"host": socket.gethostname(), "pid": process.pid, "parent": os.getpid(), "started": started[0]}


def wait_for_the_end_of(core: Mapping[str, Any] | None) -> None:
    """Waits until an earlier wandb-core is gone whose process was killed.

    It goes on writing for a moment, and what it has written must be known before more is.

    Args:
        core: Its `identity`.

    Raises:
        TransientError: It is still there.
    """
    if not core or core.get("host") != socket.gethostname():
        return
    deadline = time.monotonic() + LINGER_S
    # One that still has its parent serves other runs; ours it was told to let go of.
    while (found := _started(int(core["pid"]))) and found[0] == core["started"] and found[1] != core["parent"]:
        if time.monotonic() > deadline:
            raise TransientError(f"the wandb-core of an earlier delivery (pid {core['pid']}) still runs", 1.0)
        time.sleep(0.01)


def _started(pid: int) -> tuple[str, int] | None:
    """Returns when a process was started, by the kernel's clock, and its parent.

    None where it is gone, or where there is no /proc.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (fields[19], int(fields[1]))


def _users_run_is_active() -> bool:
    return wandb.run is not None and not wandb.run.disabled


def _belongs_to_this_process(token: str) -> bool:
    found = re.match(r"\d+-(\d+)-", token)
    return found is not None and int(found[1]) == os.getpid()
