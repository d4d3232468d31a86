from __future__ import annotations

import re
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from rl_logging.system_metrics import Machine
from tests.docs.blocks import DOCS

NAMES = {
    "system/cpu_utilization_percentage",
    "system/memory_used_megabytes",
    "system/memory_available_megabytes",
    "system/memory_percent",
    "system/disk_used_gigabytes",
    "system/disk_available_gigabytes",
    "system/disk_percent",
}


def figures_after_work(machine: Machine) -> dict[str, float]:
    """Returns the figures once processors have done something that the system's clock has seen."""
    before = psutil.cpu_times()
    for _ in range(3000):
        if psutil.cpu_times() != before:
            break
        threading.Event().wait(0.01)
    return machine.figures()


def test_the_figures_are_those_of_this_machine(tmp_path: Path) -> None:
    figures = figures_after_work(Machine(tmp_path, pytest.fail))
    assert set(figures) == NAMES
    assert all(type(value) is float for value in figures.values())
    assert all(0 <= value <= 100 for name, value in figures.items() if "percent" in name)
    disk = shutil.disk_usage(tmp_path)
    assert figures["system/disk_used_gigabytes"] == pytest.approx(disk.used / 2**30, rel=0.1)
    assert figures["system/disk_available_gigabytes"] == pytest.approx(disk.free / 2**30, rel=0.1)
    available_mb = figures["system/memory_available_megabytes"]
    total_mb = psutil.virtual_memory().total / 2**20
    assert figures["system/memory_percent"] == pytest.approx(100 * (1 - available_mb / total_mb), abs=0.2)


class Times:
    """What psutil gives for the processors; the real one cannot be told what to be busy with."""

    def __init__(self, **seconds: float) -> None:
        self._seconds = seconds

    def _asdict(self) -> dict[str, float]:
        return self._seconds


def test_the_processor_is_busy_as_far_as_it_was_not_idle_since_the_last_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(
        [
            Times(user=10.0, system=5.0, idle=80.0, iowait=5.0, guest=4.0),
            Times(user=16.0, system=6.0, idle=85.0, iowait=8.0, guest=8.0),  # 7 of 15: the guest is in the user
            Times(user=16.0, system=6.0, idle=85.0, iowait=8.0, guest=8.0),
            Times(user=16.0, system=6.0, idle=90.0, iowait=8.0, guest=8.0),
        ]
    )
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(times))
    machine = Machine(tmp_path, pytest.fail)
    cpu = "system/cpu_utilization_percentage"
    assert machine.figures()[cpu] == pytest.approx(100 * 7 / 15)
    assert cpu not in machine.figures()  # no time has passed
    assert machine.figures()[cpu] == 0.0


def test_one_figure_that_cannot_be_had_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise OSError("gone")

    monkeypatch.setattr(psutil, "disk_usage", fail)
    told: list[tuple[str, str]] = []
    machine = Machine(tmp_path, lambda key, message: told.append((key, message)))
    assert set(figures_after_work(machine)) == {name for name in NAMES if "disk" not in name}
    assert [key for key, _ in told] == ["disk"]
    assert "OSError: gone" in told[0][1]


def test_without_psutil_there_is_nothing_and_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    told: list[str] = []
    machine = Machine(tmp_path, lambda key, message: told.append(message))
    assert machine.figures() == machine.figures() == {}
    assert len(told) == 1
    assert "pip install 'rl-logging[system]'" in told[0]


def test_every_name_is_documented() -> None:
    page = (DOCS / "reference" / "metrics.rst").read_text(encoding="utf-8")
    listed = set(re.findall(r"^``(system/[^`]+)``", page, flags=re.MULTILINE))
    gpu = {"utilization_percentage", "memory_used_megabytes", "memory_percent", "power_watts"}
    assert listed == NAMES | {f"system/gpu_<i>_{figure}" for figure in gpu}
