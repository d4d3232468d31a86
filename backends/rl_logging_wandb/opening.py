"""Starting a W&B run in the delivery process that looks like the training process's own."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import wandb
from pydantic import ValidationError
from wandb.errors import AuthenticationError, CommError, UsageError

from rl_logging.sinks import RejectedError, SinkContext, TransientError
from rl_logging_wandb import service, values

try:
    import fcntl
except ImportError:  # Windows, whose file systems have locks
    fcntl = None  # type: ignore[assignment]

LOGIN: Final = "run 'wandb login' or set WANDB_API_KEY"

_FOR_GOOD: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)
"""What ails a folder until somebody mends it; a full disk or a lost mount may come right by itself."""

KNOCK_TIMEOUT_S: Final = 5

_REPORTING: Final = "WANDB_ERROR_REPORTING"
_lock: Final = threading.Lock()
_beginning: Final[list[object]] = []
"""One entry for each offline run that is being started, by several workers at once."""

_TUNABLE: Final[Mapping[str, Any]] = {
    "init_timeout": 20.0,
    "finish_timeout": 60.0,
    # How soon rows of an offline run are on disk, and how soon those of an online run are sent: until then nothing is
    # confirmed. The SDK's own 15 s would outlast a flush.
    "x_transaction_log_flush_interval": 0.5,
    "x_file_stream_transmit_interval": 5.0,
}
"""Settings that the user's WANDB_<NAME> variables may set otherwise."""


def init_run(
    context: SinkContext,
    options: Mapping[str, Any],
    run_id: str,
    *,
    tags: tuple[str, ...] | None = None,
    notes: str | None = None,
) -> wandb.Run:
    """Starts or continues a W&B run.

    Args:
        context: The run.
        options: Resolved options.
        run_id: The W&B run's id.
        tags: Tags to begin with; None: those of the options or the context.
        notes: Notes to begin with; None: those of the options or the context.

    Raises:
        TransientError: The server does not answer, or not now.
        RejectedError: It never will with these options and credentials.
    """
    offline = options["mode"] == "offline"
    given_tags = tags if tags is not None else tuple(options.get("tags") or context.tags)
    prepare(Path(options["dir"]))
    if not offline:
        _knock(options)
    before = set(run_directories(options, run_id, offline=offline))
    try:
        run = _begin(
            mode=options["mode"],
            # Offline there is nothing to resume from; wandb would only warn.
            resume=None if offline else "allow",
            reinit="create_new",
            id=run_id,
            dir=options["dir"],
            project=options.get("project") or context.project,
            entity=options.get("entity"),
            group=options.get("group") or context.group,
            job_type=options.get("job_type") or ("child" if context.parent_id is not None else None),
            name=(options.get("name") or context.name)[:128],
            notes=notes if notes is not None else options.get("notes") or context.notes,
            tags=values.tags(given_tags, context.ledger),
            settings=_settings(context, options),
        )
    except Exception as error:
        # A directory without a run in it would be left by each attempt.
        for leftover in set(run_directories(options, run_id, offline=offline)) - before:
            shutil.rmtree(leftover, ignore_errors=True)
        if "is in use" in str(error):
            # A start that failed has left the id in wandb-core, which forgets it only with its end. Its other runs go
            # on in a new one.
            service.kill()
        raise sink_error(error) from error
    if not Path(run.dir).resolve().is_relative_to(Path(options["dir"]).resolve()):
        # Between the look and the start the folder was taken away, and the SDK went where nobody looks.
        run.finish(exit_code=1)
        raise TransientError(f"W&B could not write in {options['dir']} and went to {run.dir}")
    return run


def _begin(mode: Any, **arguments: Any) -> wandb.Run:
    """Calls ``wandb.init``. An offline run is nobody's business, unless ``WANDB_ERROR_REPORTING`` says otherwise.

    From its start on the SDK measures each row that is logged and sends that to W&B's server, for an offline run as
    for any other unless ``WANDB_MODE`` is offline too.
    """
    if mode != "offline":
        return wandb.init(mode=mode, **arguments)
    with _lock:
        quiet = bool(_beginning) or _REPORTING not in os.environ
        if quiet:
            os.environ[_REPORTING] = "false"
            _beginning.append(arguments)
    try:
        return wandb.init(mode=mode, **arguments)
    finally:
        with _lock:
            if quiet:
                _beginning.pop()
            if quiet and not _beginning:
                os.environ.pop(_REPORTING, None)


def _knock(options: Mapping[str, Any]) -> None:
    """Asks the server who we are, before a run is begun: wandb-core takes no second run of an id whose start failed.

    Raises:
        TransientError: There is no answer. Whatever is answered is for ``wandb.init`` to judge.
    """
    overrides = {"base_url": options["base_url"]} if options.get("base_url") else {}
    try:
        wandb.Api(overrides=overrides, timeout=KNOCK_TIMEOUT_S).default_entity  # noqa: B018
    except Exception as error:  # the SDK has no error of its own for each thing that can happen here
        if isinstance(error, CommError) and "did not respond in time" in str(error):
            raise TransientError(f"W&B's server does not answer: {error}") from error


def prepare(folder: Path) -> None:
    """Makes the folder for W&B's files; where that cannot be, the SDK would silently take the temporary folder.

    Raises:
        RejectedError: It cannot be made or written.
        TransientError: Not now.
    """
    hidden = folder / ".wandb"
    probe = (hidden if hidden.is_dir() else folder / "wandb") / f".rl_logging-{os.getpid()}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        message = f"W&B's folder {folder} cannot be written: {error}; say with 'dir' where it may"
        if error.errno in _FOR_GOOD:
            raise RejectedError(message) from error
        raise TransientError(message) from error


def with_locks(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns `options` with a folder in which wandb-core can lock files; an online run keeps nothing there for long.

    Where the folder that was asked for has no file locks (some NFS, Lustre), that is a new temporary one; where that
    has none either, it stays as it was, and W&B says so.
    """
    folder = Path(options["dir"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return options  # `prepare` says what ails it
    if _has_locks(folder) or not _has_locks(Path(tempfile.gettempdir())):
        return options
    return {**options, "dir": tempfile.mkdtemp(prefix="rl_logging-wandb-")}


def _has_locks(folder: Path) -> bool:
    if fcntl is None:
        return True
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
    return True


def run_directories(options: Mapping[str, Any], run_id: str, *, offline: bool) -> list[Path]:
    """Returns W&B's local directories of the run, oldest first."""
    pattern = re.compile(rf"{'offline-' if offline else ''}run-\d+_\d+-{re.escape(run_id)}(-\d+)?")
    root = Path(options["dir"])
    found = [
        entry
        for folder in (root / "wandb", root / ".wandb")
        if folder.is_dir()
        for entry in folder.iterdir()
        if pattern.fullmatch(entry.name)
    ]
    return sorted(found, key=lambda entry: entry.name)


def sink_error(error: Exception) -> TransientError | RejectedError:
    """Returns what an error of ``wandb.init`` means to delivery."""
    if isinstance(error, ValidationError):
        wrong = (f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
        return RejectedError(f"wandb.Settings does not take what 'settings' has: {'; '.join(wrong)}")
    text = str(error)
    status = re.search(r"returned error (\d{3})", text)
    code = int(status[1]) if status else None
    if isinstance(error, AuthenticationError) or code == 401 or "No API key" in text:
        return RejectedError(f"W&B does not take the credentials: {text}; {LOGIN}")
    if code == 403 or "permission denied" in text.lower():
        return RejectedError(f"W&B does not let you write there: {text}; check entity and project, or {LOGIN}")
    if isinstance(error, (UsageError, ValueError)):
        return RejectedError(f"W&B does not take these options: {text}")
    if isinstance(error, CommError) and code is not None and 400 <= code < 500 and code not in (408, 409, 429):
        return RejectedError(f"W&B refuses this run: {text}")
    return TransientError(f"W&B could not start the run now: {text}")


def _settings(context: SinkContext, options: Mapping[str, Any]) -> wandb.Settings:
    program = context.program
    script = program.main or (program.argv[0] if program.argv else None) or "<interactive>"
    ours: dict[str, Any] = {
        "console": "off",
        "silent": True,
        "x_stats_pid": program.pid,
        "program": script,
        "program_abspath": str(Path(program.cwd, script)),
        "program_relpath": script,
        "x_executable": program.executable,
        # What the SDK would find out by itself is this process's argv, directory and commit; the Environment record
        # has the training process's, and the writer sends that.
        "x_disable_meta": True,
        "disable_git": True,
        "disable_code": True,
        "disable_job_creation": True,
        "label_disable": True,
        "stop_fn": lambda: context.ledger.warn(
            "W&B's page asked to stop this run; rl_logging never stops training: do so where it runs"
        ),
    }
    if not context.live:
        # Packages and system figures of the machine that syncs later would be passed off as the training's.
        ours |= {"x_disable_stats": True, "x_save_requirements": False}
    ours |= {key: value for key, value in _TUNABLE.items() if f"WANDB_{key.upper()}" not in os.environ}
    if options.get("base_url"):
        ours["base_url"] = options["base_url"]
    return wandb.Settings(**{**ours, **(options.get("settings") or {})})
