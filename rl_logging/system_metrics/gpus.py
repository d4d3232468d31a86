"""NVIDIA GPUs, through NVML."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any, Final

from rl_logging.system_metrics.machine import INSTALL, MEGABYTE, PREFIX, Tell

_DRIVER: Final = "/proc/driver/nvidia/version"
_WITHOUT_A_GPU: Final = ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded")


class Gpus:
    """Figures of each NVIDIA GPU of the machine, numbered as NVML numbers them; none where there is no such GPU.

    Args:
        tell: Told what cannot be had, once each.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            import pynvml
        except Exception as error:
            if _has_driver():
                why = "" if isinstance(error, ImportError) else f" ({error!r})"
                tell("nvml", f"GPUs cannot be sampled without nvidia-ml-py{why}: {INSTALL}")
            return
        try:
            pynvml.nvmlInit()
        except Exception as error:
            # Most machines without a GPU end here: nothing is wrong there.
            if type(error).__name__ not in _WITHOUT_A_GPU or _has_driver():
                tell("nvml", f"GPUs cannot be sampled: {type(error).__name__}: {error}")
            return
        self._nvml = pynvml
        try:
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        except Exception as error:
            tell("nvml", f"GPUs cannot be sampled: {type(error).__name__}: {error}")

    def figures(self) -> dict[str, float]:
        """Returns names to figures; megabytes are of 1024² bytes, percentages 0 to 100."""
        found: dict[str, float] = {}
        groups: dict[str, Callable[[Any], dict[str, float]]] = {
            "utilization": self._utilization,
            "memory": self._memory,
            "power": self._power,
        }
        for number, handle in enumerate(self._handles):
            name = f"{PREFIX}gpu_{number}"
            for what, figures in groups.items():
                try:
                    found.update({f"{name}_{own}": value for own, value in figures(handle).items()})
                except Exception as error:  # a GPU that lacks one figure has the others
                    self._tell(f"{name}_{what}", f"{name}_{what}_…: cannot be sampled: {error}")
        return found

    def close(self) -> None:
        """Lets go of NVML, which counts its users."""
        nvml, self._nvml, self._handles = self._nvml, None, []
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except Exception:  # nothing depends on it
                return

    def _utilization(self, handle: Any) -> dict[str, float]:
        return {"utilization_percentage": float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)}

    def _memory(self, handle: Any) -> dict[str, float]:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        return {
            "memory_used_megabytes": memory.used / MEGABYTE,
            "memory_percent": 100.0 * memory.used / memory.total if memory.total else 0.0,
        }

    def _power(self, handle: Any) -> dict[str, float]:
        return {"power_watts": self._nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0}


def _has_driver() -> bool:
    return os.path.exists(_DRIVER) or shutil.which("nvidia-smi") is not None
