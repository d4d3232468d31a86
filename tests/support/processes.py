"""Scripts run as processes of their own, and waiting for processes that are nobody's children any more (Linux)."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRIVATE = ("RL_LOGGING_", "WANDB_", "MLFLOW_")


def start_script(
    source: str, cwd: Path, arguments: Sequence[object] = (), pass_fds: Sequence[int] = ()
) -> subprocess.Popen[str]:
    """Writes ``train.py`` into `cwd` and starts it there; it can import `tests.support`."""
    cwd.mkdir(parents=True, exist_ok=True)
    # As a whole: one that was started a moment ago may be about to read it.
    new = cwd / ".train.py.new"
    new.write_text(source, encoding="utf-8")
    new.replace(cwd / "train.py")
    return subprocess.Popen(
        [sys.executable, "train.py", *map(str, arguments)],
        cwd=cwd,
        env=with_root_on_path(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=pass_fds,
        text=True,
    )


def run_script(
    source: str, cwd: Path, arguments: Sequence[object] = (), timeout_s: float = 180
) -> subprocess.CompletedProcess[str]:
    """Runs `source` to its end.

    Raises:
        subprocess.TimeoutExpired: It took longer than `timeout_s`; it is killed then.
    """
    process = start_script(source, cwd, arguments)
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def with_root_on_path() -> dict[str, str]:
    """Returns this process's environment variables, with the repository's root on Python's search path."""
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run_command(
    line: str, cwd: Path, timeout_s: float = 300, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command line whose program was installed beside this Python, such as ``rl-logging sync runs``.

    Args:
        line: The command line.
        cwd: Where it runs.
        timeout_s: After which it is killed, and `subprocess.TimeoutExpired` raised.
        env: Its environment variables; None for this process's.
    """
    program, *arguments = shlex.split(line)
    return subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def own_environ(home: Path) -> dict[str, str]:
    """Returns environment variables for what runs before a test's own fixtures: nobody's stores, a home of its own."""
    home.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(PRIVATE)}
    places = ("CACHE", "CONFIG", "DATA", "ARTIFACT")
    return {
        **kept,
        **{f"WANDB_{place}_DIR": str(home / place.lower()) for place in places},
        "HOME": str(home),
        "WANDB_ERROR_REPORTING": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def children(said: str, pid: int | None = None) -> list[int]:
    """Returns the ids of a process's children (this one's without `pid`) in whose command line `said` stands."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(parent) == (os.getpid() if pid is None else pid) and said.encode() in line:
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Returns whether a process is there, and no zombie."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Watched:
    """A process that is not ours to wait for, held so that its id cannot come to mean another.

    Args:
        pid: Its id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._fd: int | None = os.pidfd_open(pid)
        except ProcessLookupError:
            self._fd = None

    def wait(self, timeout_s: float) -> bool:
        """Waits for its end; returns whether it has ended."""
        if self._fd is None:
            return True
        ready, _, _ = select.select([self._fd], [], [], timeout_s)
        return bool(ready)

    def close(self) -> None:
        """Lets go of it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
