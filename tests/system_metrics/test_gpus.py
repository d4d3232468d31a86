"""GPUs, by a stand-in for NVML: no machine that runs these tests need have one."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pynvml
import pytest

from rl_logging.system_metrics import Gpus, gpus


class Nvml(ModuleType):
    """Two GPUs, as NVML gives their figures: bytes, percent, milliwatts."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.users = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.users += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.users -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=30 + handle, memory=5)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(used=(handle + 1) * 512 * 2**20, total=4096 * 2**20, free=0)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        return 75_500


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    stand_in = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    return stand_in


def test_each_gpu_has_its_figures(nvml: Nvml) -> None:
    found = Gpus(pytest.fail)
    assert found.figures() == {
        "system/gpu_0_utilization_percentage": 30.0,
        "system/gpu_0_memory_used_megabytes": 512.0,
        "system/gpu_0_memory_percent": 12.5,
        "system/gpu_0_power_watts": 75.5,
        "system/gpu_1_utilization_percentage": 31.0,
        "system/gpu_1_memory_used_megabytes": 1024.0,
        "system/gpu_1_memory_percent": 25.0,
        "system/gpu_1_power_watts": 75.5,
    }
    assert nvml.users == 1
    found.close()
    found.close()
    assert nvml.users == 0
    assert found.figures() == {}


def test_a_gpu_that_lacks_a_figure_has_the_others(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def power(handle: int) -> int:
        if handle == 1:
            raise RuntimeError("Not Supported")
        return 1000

    monkeypatch.setattr(nvml, "nvmlDeviceGetPowerUsage", power, raising=False)
    told: list[tuple[str, str]] = []
    figures = Gpus(lambda key, message: told.append((key, message))).figures()
    assert figures["system/gpu_0_power_watts"] == 1.0
    assert "system/gpu_1_power_watts" not in figures
    assert "system/gpu_1_memory_percent" in figures
    assert [key for key, _ in told] == ["system/gpu_1_power"]
    assert "Not Supported" in told[0][1]


@pytest.mark.parametrize("error", [pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded])
@pytest.mark.parametrize("driver", [False, True])
def test_a_machine_without_a_gpu_is_no_news(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, error: type[Exception], driver: bool
) -> None:
    def fail() -> None:
        raise error()

    monkeypatch.setattr(nvml, "nvmlInit", fail, raising=False)
    monkeypatch.setattr(gpus, "_has_driver", lambda: driver)
    told: list[str] = []
    assert Gpus(lambda key, message: told.append(message)).figures() == {}
    assert len(told) == driver


def test_what_else_nvml_raises_is_told(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("version mismatch")

    told: list[str] = []
    monkeypatch.setattr(nvml, "nvmlDeviceGetCount", fail, raising=False)
    assert Gpus(lambda key, message: told.append(message)).figures() == {}
    monkeypatch.setattr(nvml, "nvmlInit", fail, raising=False)
    assert Gpus(lambda key, message: told.append(message)).figures() == {}
    assert len(told) == 2
    assert all("version mismatch" in message for message in told)


@pytest.mark.parametrize("driver", [False, True])
def test_without_the_package_it_is_told_where_there_is_a_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: bool
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(gpus, "_DRIVER", str(tmp_path / "version"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    if driver:
        (tmp_path / "version").touch()
    told: list[str] = []
    assert Gpus(lambda key, message: told.append(message)).figures() == {}
    assert len(told) == driver
    assert all("pip install 'rl-logging[system]'" in message for message in told)
