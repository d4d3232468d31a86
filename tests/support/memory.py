"""How much memory a process has to itself, as the kernel says (Linux)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

OWN: Final = ("RssAnon:", "RssShmem:")
"""Not the libraries' files: how much of those is counted as resident depends on how the page cache holds them (40 MB
more for a venv that was just installed), and every process on the machine shares them."""


def own_mb(pid: int) -> float:
    """Returns what a process has now, in MB; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith(OWN))
