"""Processor, memory and disk, through psutil."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

Tell = Callable[[str, str], None]
"""Called with a key, once per key of which the caller shows it, and a message."""

PREFIX: Final = "system/"
INSTALL: Final = "pip install 'rl-logging[system]'"
MEGABYTE: Final = 1024**2
GIGABYTE: Final = 1024**3


class Machine:
    """Figures of the whole machine, whoever uses it.

    Args:
        folder: Its file system is the disk that is meant.
        tell: Told what cannot be had, once each.
    """

    def __init__(self, folder: str | os.PathLike[str], tell: Tell) -> None:
        self._folder = os.fspath(folder)
        self._tell = tell
        self._psutil: Any = None
        self._busy_before: tuple[float, float] | None = None
        try:
            import psutil
        except Exception as error:
            why = "" if isinstance(error, ImportError) else f" ({error!r})"
            tell("psutil", f"processor, memory and disk cannot be sampled without psutil{why}: {INSTALL}")
            return
        self._psutil = psutil
        self._asked("cpu", self._processor)  # what the first sample compares with

    def figures(self) -> dict[str, float]:
        """Returns names to figures; megabytes are of 1024², gigabytes of 1024³ bytes, percentages 0 to 100."""
        if self._psutil is None:
            return {}
        return {
            **self._asked("cpu", self._processor),
            **self._asked("memory", self._memory),
            **self._asked("disk", self._disk),
        }

    def _asked(self, what: str, figures: Callable[[], dict[str, float]]) -> dict[str, float]:
        try:
            return figures()
        except Exception as error:  # psutil raises whatever the system does; one figure less is no trouble
            self._tell(what, f"{PREFIX}{what}_…: cannot be sampled: {type(error).__name__}: {error}")
            return {}

    def _processor(self) -> dict[str, float]:
        """Returns the share of time in which the processors were not idle since the last call; nothing at the first.

        psutil's own `cpu_percent` keeps what it compares with for the whole process, which may serve several runs.
        """
        times = self._psutil.cpu_times()._asdict()
        # Linux counts a guest's time in the user's as well.
        total = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
        busy = total - times["idle"] - times.get("iowait", 0.0)
        before, self._busy_before = self._busy_before, (busy, total)
        if before is None or total <= before[1]:
            return {}
        percent = 100.0 * (busy - before[0]) / (total - before[1])
        return {f"{PREFIX}cpu_utilization_percentage": min(100.0, max(0.0, percent))}

    def _memory(self) -> dict[str, float]:
        memory = self._psutil.virtual_memory()
        return {
            f"{PREFIX}memory_used_megabytes": memory.used / MEGABYTE,
            f"{PREFIX}memory_available_megabytes": memory.available / MEGABYTE,
            f"{PREFIX}memory_percent": float(memory.percent),
        }

    def _disk(self) -> dict[str, float]:
        disk = self._psutil.disk_usage(self._folder)
        return {
            f"{PREFIX}disk_used_gigabytes": disk.used / GIGABYTE,
            f"{PREFIX}disk_available_gigabytes": disk.free / GIGABYTE,
            f"{PREFIX}disk_percent": float(disk.percent),
        }
