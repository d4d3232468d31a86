"""Rows in which the machine, the disk or the crowd is the trouble."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.rows import row
from tests.faults.stage import FIRST, PROBE, REST, Outcome, Stage, Trainer, together
from tests.faults.store_rows import is_told
from tests.faults.stores import SqliteStore
from tests.support import no_locks
from tests.support.fault_proxy import Fault

CROWD = 8
DISK = "size=1m"
POISON = 400
"""The step of a record that the store refuses."""


@row("one bad key in a batch", stores=("mlflow",))
def bad_key(stage: Stage) -> Outcome:
    """MLflow refuses a whole batch for one entry; every name is cleaned before, so the proxy refuses one for it."""
    training = stage.train()
    training.order("log", FIRST)
    stage.await_stored(training)
    stage.store.front.put(
        Fault(
            "status",
            where=lambda request: stage.store.is_rows(request) and b"poison" in request.body,
            status=400,
            body=b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "a bad key"}',
        )
    )
    training.order("metrics", {"good": 1.0, "poison": 2.0}, step=10**6)
    training.order("time anew")
    training.order("log", PROBE + REST)
    exit_code = training.end()
    assert "a bad key" in training.stderr
    assert stage.sync(training) == 3, "records were refused for good, which its exit code says"
    outcome = stage.conclude(training, exit_code)
    assert outcome.rejected == 1
    return outcome


@row("keys that the store does not take as they are")
def odd_keys(stage: Stage) -> Outcome:
    training = stage.train()
    training.order("log", FIRST)
    odd = {"Reward / Total (mean)": 1.0, "a//b": 2.0, "../up": 3.0, "_step": 4.0, "x" * 300: 5.0, "é [%]": 6.0}
    for number in range(3):
        training.order("metrics", odd, step=10**6 + number)
    training.order("time anew")
    training.order("log", PROBE + REST)
    exit_code = training.end()
    return stage.conclude(training, exit_code, renamed=True)


@row(f"{CROWD} processes on a fresh SQLite store", stores=("mlflow",), crowd=True)
def fresh_sqlite(stage: Stage) -> Outcome:
    stage.use(SqliteStore(stage.folder / "fresh.db"))
    return _crowd(stage)


@row(f"{CROWD} trainings at once on one server", crowd=True)
def crowd(stage: Stage) -> Outcome:
    return _crowd(stage)


def crowd_apart(stage: Stage) -> Outcome:
    """As many trainings, none of which shares its store: what the crowds are compared with."""
    configs: list[dict[str, object]] = [
        {"mlflow": {"tracking_uri": f"sqlite:///{stage.folder / str(number)}.db"}}
        if stage.store_name == "mlflow"
        else {"wandb": {"mode": "offline"}}
        for number in range(CROWD)
    ]
    trainings = [stage.launch(config=config) for config in configs]
    _log_together(trainings)
    for training in trainings:
        assert training.end() == 0
    return together([stage.measure(training) for training in trainings])


@row("no file locks to be had", stores=("mlflow",))
def no_file_locks(stage: Stage) -> Outcome:
    training = _without_locks(stage)
    training.order("log", FIRST)
    stage.await_stored(training)
    training.order("time anew")
    training.order("log", PROBE + REST)
    return stage.conclude(training, training.end())


@row("no file locks to be had; W&B's own client needs them", stores=("wandb",), synced=True)
def no_file_locks_for_wandb(stage: Stage) -> Outcome:
    """Training goes on and is told, and ``rl-logging sync`` delivers from where there are locks."""
    training = _without_locks(stage)
    training.order("log", FIRST + PROBE + REST)
    exit_code = training.end()
    is_told(training)
    assert "locks" in training.stderr, training.stderr
    training.await_delivery_end()
    return stage.conclude(training, exit_code, stage.sync(training))


def _without_locks(stage: Stage) -> Trainer:
    if not no_locks.possible():
        pytest.skip("the seccomp filter is written for Linux on x86-64 and ARM64")
    return stage.train(wrapper=[sys.executable, no_locks.__file__])


@row("disk full for a while")
def disk_full(stage: Stage) -> Outcome:
    own = _unshare("--mount")
    disk = stage.folder / "disk"
    disk.mkdir(parents=True)
    mounted = [*own, "sh", "-c", f'mount -t tmpfs -o {DISK} tmpfs "$0" && exec "$@"', str(disk)]
    training = stage.train(wrapper=mounted, dir=str(disk / "runs"))
    training.order("log", FIRST)
    stage.await_stored(training)
    training.order("fill", str(disk / "ballast"))
    training.order("time anew")
    training.order("log", PROBE + REST)
    training.order("free", str(disk / "ballast"))
    training.order("log until accepted")
    training.order("log", REST)
    training.order("finish")
    # The disk goes with the last process that sees it.
    kept = stage.folder / "kept" / training.run_dir.name
    shutil.copytree(Path(f"/proc/{training.pid}/root") / training.run_dir.relative_to("/"), kept)
    training.run_dir = kept
    outcome = stage.conclude(training, training.end())
    told = re.search(r"([\d,]+) more could not be written to the journal and are lost", training.stderr)
    assert told, training.stderr
    assert training.stderr.count("what is logged is not kept") == 1, training.stderr
    outcome.lost = int(told[1].replace(",", ""))
    assert outcome.accepted + outcome.lost == outcome.calls, outcome
    assert outcome.accepted > FIRST + REST, "logging did not recover"
    return outcome


@row(
    "PID namespace that takes the delivery process down (container)",
    exit_code=None,
    status="killed",
    synced=True,
)
def pid_namespace(stage: Stage) -> Outcome:
    training = stage.train(wrapper=_unshare("--pid", "--mount-proc", "--fork"))
    stage.in_trouble(training, Fault("hang", where=stage.store.is_rows))
    training.order("log", REST)
    training.kill()  # the first process in its namespace: the kernel kills the others
    training.end()  # what it returns is unshare's
    training.await_delivery_end()
    stage.store.front.lift()
    return stage.conclude(training, None, stage.sync(training))


def _crowd(stage: Stage) -> Outcome:
    trainings = [stage.launch() for _ in range(CROWD)]
    _log_together(trainings)
    return together([_concluded(stage, training) for training in trainings])


def _log_together(trainings: list[Trainer]) -> None:
    for training in trainings:
        training.await_ready()
    for training in trainings:
        training.ask("log", FIRST + PROBE + REST)
    for training in trainings:
        training.hear()


def _concluded(stage: Stage, training: Trainer) -> Outcome:
    return stage.conclude(training, training.end())


def _unshare(*namespaces: str) -> list[str]:
    """Returns the command that runs a program in namespaces of its own."""
    command = ["unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), *namespaces]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare(1)")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"namespaces are not permitted here: {tried.stderr.strip()}")
    return command
