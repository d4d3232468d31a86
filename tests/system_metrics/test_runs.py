"""Figures of the machine in real runs, read back from the stores, whoever delivers."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rl_logging import ExperimentLogger
from rl_logging.cli import main
from rl_logging.journal import JournalReader
from rl_logging.launch import booting, child
from rl_logging.launch.child import DeliveryProcess
from rl_logging.records import End, Metrics, Record, decode
from rl_logging.testing.files import FileStore
from tests.support import wandb_file
from tests.support.processes import Watched, children, run_script

WAIT_S = 60
NAMES = {
    "system/cpu_utilization_percentage",
    "system/memory_used_megabytes",
    "system/memory_available_megabytes",
    "system/memory_percent",
    "system/disk_used_gigabytes",
    "system/disk_available_gigabytes",
    "system/disk_percent",
}
MACHINE = "system/memory_percent"


@pytest.fixture(autouse=True)
def _own_processes() -> Any:
    DeliveryProcess.forget_all()
    yield
    DeliveryProcess.forget_all()
    for thread in threads():  # told to end; the next test counts its own
        thread.join(WAIT_S)


def sink(path: Path, **options: Any) -> dict[str, Any]:
    return {"file": {"factory": "rl_logging.testing.files:make", "path": str(path), **options}}


def start(tmp_path: Path, delivery: str = "process", *, every_s: float = 0.1, **more: Any) -> ExperimentLogger:
    section = {"system_metrics": every_s, "sinks": sink(tmp_path / "out.jsonl"), **more}
    return ExperimentLogger({"rl_logging": section}, delivery=delivery, dir=tmp_path / "runs", quiet=True)  # type: ignore[arg-type]


def records(run_dir: Path) -> list[Record]:
    return [decode(envelope) for envelope in JournalReader(run_dir / "journal").read(100_000, final=True)]


def samples(run_dir: Path) -> list[Metrics]:
    found = [record for record in records(run_dir) if isinstance(record, Metrics)]
    return [record for record in found if any(name.startswith("system/") for name in record.values)]


def lib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder whose modules go before those that are installed, in the delivery process too."""
    folder = tmp_path / "lib"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def comes(true: Callable[[], bool]) -> bool:
    never = threading.Event()
    for _ in range(WAIT_S * 50):
        if true():
            return True
        never.wait(0.02)
    return False


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "rl_logging-system"]


TRAINER = """
import json, sys, threading
from rl_logging import ExperimentLogger

logger = ExperimentLogger({
    "rl_logging": {"system_metrics": 0.2},
    "mlflow": {"tracking_uri": "sqlite:///mlflow.db"},
    "wandb": {"mode": "offline", "project": "p", "dir": "logs"},
}, quiet=True)
logger.log_metrics({"a": 1.0}, step=7)
before = logger.accepted
never = threading.Event()
for _ in range(3000):
    if logger.accepted >= before + 4:  # the environment's record, and three samples at least
        break
    never.wait(0.02)
print(json.dumps({
    "imported": sorted({"psutil", "pynvml"} & set(sys.modules)),
    "sampling": [thread.name for thread in threading.enumerate() if thread.name == "rl_logging-system"],
}))
logger.finish()
print(json.dumps(str(logger.run_dir)))
print(json.dumps(logger.run_id("mlflow")))
"""


def test_the_delivery_process_samples_and_every_store_has_the_same(tmp_path: Path, mlflow_uri: str) -> None:
    from mlflow import MlflowClient

    done = run_script(TRAINER, tmp_path, timeout_s=300)
    assert done.returncode == 0, done.stderr
    trainer, run_dir, run_id = (json.loads(line) for line in done.stdout.splitlines())
    assert trainer == {"imported": [], "sampling": []}
    journaled = [record.values[MACHINE] for record in samples(Path(run_dir))]
    assert len(journaled) >= 3
    client = MlflowClient(mlflow_uri)
    points = client.get_metric_history(run_id, MACHINE)
    assert sorted(point.value for point in points) == sorted(journaled)
    assert {point.step for point in points} <= {0, 7}
    assert set(client.get_run(run_id).data.metrics) >= {*NAMES, "a"}
    rows = wandb_file.read(tmp_path / "logs").series(MACHINE)
    assert [value for _, value in rows] == journaled
    assert {step for step, _ in rows} <= {0, 7}


@pytest.mark.parametrize("delivery", ["process", "thread"])
def test_samples_are_delivered_once_and_stop_at_the_finish(tmp_path: Path, delivery: str) -> None:
    with start(tmp_path, delivery) as logger:
        assert comes(lambda: len(samples(logger.run_dir)) >= 3)
        assert bool(threads()) == (delivery == "thread")
    for thread in threads():
        thread.join(WAIT_S)
        assert not thread.is_alive()
    kept = samples(logger.run_dir)
    assert set().union(*(record.values for record in kept)) == NAMES
    store = FileStore(tmp_path / "out.jsonl")
    assert [value for name, _, value in store.points() if name == MACHINE] == [row.values[MACHINE] for row in kept]
    assert isinstance(records(logger.run_dir)[-1], End)


def test_an_offline_run_has_them_and_syncs_them(tmp_path: Path) -> None:
    with start(tmp_path, "offline") as logger:
        assert comes(lambda: len(samples(logger.run_dir)) >= 2)
    synced = CliRunner().invoke(main, ["sync", "--trust", str(logger.run_dir)])
    assert synced.exit_code == 0, synced.output
    points = FileStore(tmp_path / "out.jsonl").points()
    assert [value for name, _, value in points if name == MACHINE] == [
        record.values[MACHINE] for record in samples(logger.run_dir)
    ]


def test_without_a_store_the_run_directory_has_them(tmp_path: Path) -> None:
    with start(tmp_path, sinks=False) as logger:
        assert comes(lambda: bool(samples(logger.run_dir)))


@pytest.mark.parametrize("section", [{"system_metrics": False}, {"delivery": "disabled"}])
def test_they_are_an_option(tmp_path: Path, section: dict[str, Any]) -> None:
    options = {"delivery": "thread", "every_s": 0.1, **section}
    delivery = options.pop("delivery")
    with start(tmp_path, delivery, **options) as logger:
        logger.log_metrics({"a": 1.0})
        assert threads() == []


def test_they_take_the_clocks_step_and_do_not_move_it(tmp_path: Path) -> None:
    with start(tmp_path, "thread") as logger:
        logger.log_metrics({"a": 1.0})
        assert comes(lambda: bool(samples(logger.run_dir)))
        logger.log_metrics({"a": 2.0})
        logger.log_metrics({"a": 3.0}, step=50)
        seen = len(samples(logger.run_dir))
        assert comes(lambda: len(samples(logger.run_dir)) > seen + 1)
        logger.log_metrics({"a": 4.0})
    found = [record for record in records(logger.run_dir) if isinstance(record, Metrics)]
    assert [(record.values["a"], record.step) for record in found if "a" in record.values] == [
        (1.0, 0),
        (2.0, 1),
        (3.0, 50),
        (4.0, 51),
    ]
    highest = 0
    for record in found:
        if "a" in record.values:
            highest = max(highest, record.step or 0)
        else:
            assert record.step == highest


def test_a_figure_that_hangs_delays_neither_the_training_nor_the_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, never = threading.Event(), threading.Event()

    def hang(*_: Any) -> None:
        asked.set()
        never.wait(WAIT_S)

    monkeypatch.setattr("psutil.disk_usage", hang)
    try:
        with start(tmp_path, "thread") as logger:
            assert asked.wait(WAIT_S)
            logger.log_metrics({"a": 1.0})
            assert logger.flush(WAIT_S)
        assert len(threads()) == 1  # it hangs still
        assert FileStore(tmp_path / "out.jsonl").status() == "finished"
        assert FileStore(tmp_path / "out.jsonl").points() == [("a", 0, 1.0)]
    finally:
        never.set()
    assert comes(lambda: threads() == [])


def test_the_filter_is_theirs_too(tmp_path: Path) -> None:
    with start(tmp_path, "thread", metric_filter=["memory_percent"]) as logger:
        assert comes(lambda: len(samples(logger.run_dir)) >= 2)
    assert {name for record in samples(logger.run_dir) for name in record.values} == {MACHINE}


def test_one_process_samples_for_each_of_its_runs(tmp_path: Path) -> None:
    first, second = start(tmp_path), start(tmp_path, every_s=3600)
    assert comes(lambda: len(samples(first.run_dir)) >= 3 and len(samples(second.run_dir)) == 1)
    (process,) = DeliveryProcess._shared.values()
    pid = process.pid
    first.finish()
    assert len(samples(second.run_dir)) == 1
    second.finish()
    assert process.pid in (pid, None)
    assert threads() == []


def test_where_no_process_can_be_had_a_thread_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booting, "BOOT", "import sys; sys.exit(3)")
    monkeypatch.setattr(child, "RESTART_AFTER_S", 0.01)
    with start(tmp_path) as logger:
        assert comes(lambda: len(samples(logger.run_dir)) >= 2)
        assert len(threads()) == 1
    assert any(name == MACHINE for name, _, _ in FileStore(tmp_path / "out.jsonl").points())


def test_a_process_that_is_killed_samples_again_when_it_is_back(tmp_path: Path) -> None:
    with start(tmp_path) as logger:
        assert comes(lambda: bool(samples(logger.run_dir)))
        (process,) = DeliveryProcess._shared.values()
        killed = process.pid
        assert killed is not None
        watched = Watched(killed)
        os.kill(killed, signal.SIGKILL)
        assert watched.wait(WAIT_S)
        watched.close()
        seen = len(samples(logger.run_dir))
        assert comes(lambda: len(samples(logger.run_dir)) > seen)


def test_a_run_that_every_store_refuses_is_sampled_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed.py").write_text(
        """
from rl_logging.sinks import RejectedError
def make(name, context, options):
    raise RejectedError("closed")
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with start(tmp_path, sinks={"closed": {"factory": "closed:make"}}) as logger:
        assert comes(lambda: logger.status()["closed"].phase == "refused" and bool(threads()))
        seen = len(samples(logger.run_dir))
        assert comes(lambda: len(samples(logger.run_dir)) > seen)


def test_a_missing_package_is_one_warning_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (lib(tmp_path, monkeypatch) / "psutil.py").write_text("raise ImportError('there is none')")
    with start(tmp_path) as logger:
        assert comes(lambda: "rl-logging[system]" in caplog.text)
        logger.log_metrics({"a": 1.0})
    told = [record.getMessage() for record in caplog.records if "rl-logging[system]" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("system_metrics: ")
    assert FileStore(tmp_path / "out.jsonl").points() == [("a", 0, 1.0)]


def test_gpus_are_sampled_by_the_delivery_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A stand-in for NVML: no machine that runs this need have a GPU.
    (lib(tmp_path, monkeypatch) / "pynvml.py").write_text(
        """
from types import SimpleNamespace
def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetUtilizationRates(handle): return SimpleNamespace(gpu=40)
def nvmlDeviceGetMemoryInfo(handle): return SimpleNamespace(used=2**30, total=2**32)
def nvmlDeviceGetPowerUsage(handle): return 250_000
"""
    )
    with start(tmp_path) as logger:
        assert comes(lambda: bool(samples(logger.run_dir)))
    values = samples(logger.run_dir)[0].values
    assert {name: value for name, value in values.items() if "gpu" in name} == {
        "system/gpu_0_utilization_percentage": 40.0,
        "system/gpu_0_memory_used_megabytes": 1024.0,
        "system/gpu_0_memory_percent": 25.0,
        "system/gpu_0_power_watts": 250.0,
    }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_a_trainer_that_is_killed_leaves_nothing_that_samples(tmp_path: Path) -> None:
    done = run_script(
        f"""
import os, signal, threading
from rl_logging import ExperimentLogger
section = {{"system_metrics": 0.1, "sinks": {sink(tmp_path / "out.jsonl")!r}}}
logger = ExperimentLogger({{"rl_logging": section}}, dir="runs", id="mine", quiet=True)
logger.log_metrics({{"a": 1.0}})
never = threading.Event()
while logger.accepted < 5:
    never.wait(0.02)
os.kill(os.getpid(), signal.SIGKILL)
""",
        tmp_path,
    )
    assert done.returncode == -signal.SIGKILL
    store = FileStore(tmp_path / "out.jsonl")
    assert store.wait_for(lambda it: it.status("mine") == "killed", WAIT_S)
    assert sum(name == MACHINE for name, _, _ in store.points()) >= 2
    assert comes(lambda: not children(str(tmp_path), pid=1))
