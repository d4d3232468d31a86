"""How much memory a process has, as the kernel says (Linux)."""

from __future__ import annotations

from pathlib import Path


def peak_mb(pid: int) -> float:
    """Returns the most that a process has had at once, in MB; 0 where it is gone."""
    return _status_mb(pid, "VmHWM")


def resident_mb(pid: int) -> float:
    """Returns what a process has now, in MB; 0 where it is gone."""
    return _status_mb(pid, "VmRSS")


def _status_mb(pid: int, field: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), 0.0)
