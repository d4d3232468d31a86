"""Knowing a process again, and hearing of its end."""

from __future__ import annotations

import functools
import os
import select
import sys
import threading
from pathlib import Path

POLL_S = 1.0


@functools.cache
def boot_id() -> str:
    """Returns what changes with each boot of this machine; empty where the system has no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def started_at(pid: int) -> float | None:
    """Returns when process `pid` started, in the system's own unit; None where there is no such process.

    With the pid it names a process for good: pids are used again. Where the system tells no start time, 0.0.
    """
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        if fields[0] in "ZX":
            return None
        return float(fields[19])
    if sys.platform == "win32":
        import ctypes

        kernel32 = ctypes.windll.kernel32
        handle = kernel32.OpenProcess(0x1000, False, pid)
        if not handle:
            return None
        try:
            code = ctypes.c_ulong()
            kernel32.GetExitCodeProcess(handle, ctypes.byref(code))
            return 0.0 if code.value == 259 else None
        finally:
            kernel32.CloseHandle(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0.0


def wait_for_end(pid: int, started: float, stop: threading.Event | None = None) -> bool:
    """Waits until the process is gone; True then, False where `stop` was set first.

    By a pidfd where the system has them, which a forked grandchild cannot keep open; else by asking once a second.
    """
    stop = stop or threading.Event()
    fd = _pidfd(pid)
    try:
        while not stop.is_set():
            if started_at(pid) != started:
                return True
            if fd < 0:
                stop.wait(POLL_S)
            elif select.select([fd], [], [], POLL_S)[0]:
                return True
        return False
    finally:
        if fd >= 0:
            os.close(fd)


def _pidfd(pid: int) -> int:
    opener = getattr(os, "pidfd_open", None)
    if opener is None:
        return -1
    try:
        return int(opener(pid))
    except OSError:
        return -1
