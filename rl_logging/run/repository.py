"""The git repository a program was started from, asked with bounded patience and without running what it configures."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rl_logging.secrets import mask_text, strip_url_credentials
from rl_logging.sinks import Program

COMMAND_S: Final = 3.0
PATCH_S: Final = 5.0
PATCH_BYTES_MOST: Final = 10 << 20
UNTRACKED_MOST: Final = 100

# A repository's own configuration can name programs to run; none is.
_HARMLESS: Final = (
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false"),
    *("-c", "diff.submodule=short", "-c", "core.pager=cat", "-c", "credential.helper="),
)
_DIFF: Final = (
    *("diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames"),
    *("--src-prefix=a/", "--dst-prefix=b/"),
)
# Set inside a hook, say; they would have git look at another repository than the one asked about.
_ELSEWHERE: Final = frozenset(
    [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
        "GIT_COMMON_DIR",
    ]
)
_FILE_START: Final = b"\ndiff --git "


class Repository:
    """A working tree.

    Args:
        root: Its top folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._notes: list[str] = []

    def described(self) -> dict[str, Any]:
        """Returns commit, branch, remote (without credentials), whether it is dirty, and what is untracked.

        What git does not answer in time is None.
        """
        remote = self._line("config", "--get", "remote.origin.url")
        status = self._ask("status", "--porcelain=v1", "-z", "--untracked-files=normal", "--ignore-submodules=dirty")
        entries = None if status is None else [entry for entry in status.decode(errors="replace").split("\0") if entry]
        untracked = None if entries is None else [entry[3:] for entry in entries if entry.startswith("?? ")]
        return {
            "root": str(self.root),
            "commit": self._line("rev-parse", "--verify", "-q", "HEAD"),
            "branch": self._line("symbolic-ref", "--short", "-q", "HEAD"),
            "remote": None if remote is None else mask_text(strip_url_credentials(remote)),
            "dirty": None if entries is None or untracked is None else len(entries) > len(untracked),
            "untracked": None if untracked is None else untracked[:UNTRACKED_MOST],
            "untracked_count": None if untracked is None else len(untracked),
            "notes": list(self._notes),
        }

    def write_patch(self, path: Path) -> bool:
        """Writes the uncommitted changes of tracked files, staged ones too; returns whether there are any.

        A patch beyond 10 MiB is cut after the last whole file, and says so in its first lines; it still applies.

        Raises:
            OSError: It cannot be written.
        """
        with tempfile.TemporaryFile(dir=path.parent) as changes:
            if not self._diff_into(changes):
                return False
            size = changes.tell()
            changes.seek(0)
            patch = changes.read(PATCH_BYTES_MOST)
        if not patch:
            return False
        if size > PATCH_BYTES_MOST:
            patch = self._cut(patch, size)
        staging = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        staging.write_bytes(patch)
        os.replace(staging, path)
        return True

    def _diff_into(self, file: Any) -> bool:
        """Has git write the diff to `file` until it ends, takes too long, or writes far too much."""
        try:
            process = subprocess.Popen(
                self._command(*_DIFF), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.DEVNULL, env=_environ()
            )
        except OSError:
            return False
        deadline = time.monotonic() + PATCH_S
        code: int | None = None
        while code is None and time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(0.1)
            if os.fstat(file.fileno()).st_size > 4 * PATCH_BYTES_MOST:
                break
        if code is None:
            process.kill()
            process.wait()
            self._notes.append(f"git diff was stopped after {PATCH_S:g} s or {4 * PATCH_BYTES_MOST >> 20} MiB")
        file.seek(0, os.SEEK_END)
        # Killed half-way, it has written more than fits or an unknown part: only the former is worth keeping.
        return code == 0 or (code is None and file.tell() > PATCH_BYTES_MOST)

    def _cut(self, patch: bytes, size: int) -> bytes:
        end = patch.rfind(_FILE_START)
        note = f"the uncommitted changes take {size} bytes or more; these are the files within {PATCH_BYTES_MOST} bytes"
        self._notes.append(note)
        kept = patch[: end + 1] if end > 0 else b""
        return b"# " + note.encode() + b"\n" + kept

    def _line(self, *arguments: str) -> str | None:
        answer = self._ask(*arguments)
        return None if answer is None else answer.decode(errors="replace").strip() or None

    def _ask(self, *arguments: str) -> bytes | None:
        return _run(self._command(*arguments))

    def _command(self, *arguments: str) -> list[str]:
        return ["git", "-C", str(self.root), *_HARMLESS, *arguments]


def find_repository(program: Program) -> Repository | None:
    """Returns the repository of the program's main file, or of its working directory; None where there is none.

    A main file inside the Python installation (``python -m package``) says nothing about the user's work.
    """
    folders: list[str] = []
    if program.main is not None and not _is_installed(program.main):
        folders.append(os.path.dirname(program.main))
    folders.append(program.cwd)
    for folder in dict.fromkeys(folders):
        answer = _run(["git", "-C", folder, *_HARMLESS, "rev-parse", "--show-toplevel"])
        root = None if answer is None else os.fsdecode(answer).rstrip("\r\n")
        if root:
            return Repository(Path(root))
    return None


def _is_installed(path: str) -> bool:
    real = Path(os.path.realpath(path))
    if {"site-packages", "dist-packages"} & set(real.parts) or real.is_relative_to(os.path.dirname(os.__file__)):
        return True
    return sys.prefix != sys.base_prefix and real.is_relative_to(os.path.realpath(sys.prefix))


def _run(command: Sequence[str]) -> bytes | None:
    """Returns what `command` printed; None where it is missing, failed, or took too long."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=COMMAND_S,
            check=True,
            env=_environ(),
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _environ() -> dict[str, str]:
    """Returns an environment in which git asks nobody, takes no locks, and looks where we say."""
    kept = {key: value for key, value in os.environ.items() if key not in _ELSEWHERE}
    return {**kept, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
