"""Deaths of wandb-core, and of the process it belongs to, at the moments that are easily overlooked."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import wandb

from rl_logging.records import Model
from rl_logging.sinks import RejectedError, Sink, TransientError
from rl_logging_wandb import service
from tests.support import wandb_file
from tests.support.wandb_server import WandbServer
from tests.support.wandb_sink import (
    RUN_ID,
    RecordingLedger,
    make_context,
    make_sink,
    metrics,
    wait_until,
    wandb_core_children,
)

OPTIONS = {"mode": "offline", "settings": {"x_transaction_log_flush_interval": 600.0}}


def kill_core() -> None:
    (core,) = wandb_core_children()
    os.kill(core, signal.SIGKILL)


def confirms(sink: Sink, seq: int) -> Callable[[], bool]:
    def asked() -> bool:
        try:
            return sink.confirmed() == seq
        except TransientError:
            return False

    return asked


def test_what_a_dead_core_took_is_delivered_without_another_write(tmp_path: Path) -> None:
    sink = make_sink(make_context(tmp_path / "run"), {**OPTIONS, "dir": str(tmp_path / "logs")})
    sink.open(None)
    sink.write([metrics(seq, a=float(seq)) for seq in range(1, 50)])
    kill_core()
    sink._options = {"mode": "offline", "dir": str(tmp_path / "logs")}  # type: ignore[attr-defined]
    wait_until(confirms(sink, 49))
    sink.close("finished")

    assert [row["a"] for row in wandb_file.read(tmp_path / "logs").rows] == list(range(1, 50))


def test_runs_that_shared_a_dead_core_all_go_on(tmp_path: Path) -> None:
    options = {"mode": "offline", "dir": str(tmp_path / "logs")}
    ids = ("one", "two", "three")
    sinks = [make_sink(make_context(tmp_path / run_id, run_id=run_id), options) for run_id in ids]
    for sink in sinks:
        sink.open(None)
        sink.write([metrics(seq, a=float(seq)) for seq in range(1, 20)])
    kill_core()
    for sink in sinks:
        wait_until(confirms(sink, 19))
        sink.close("finished")

    for run_id in ids:
        folders = sorted((tmp_path / "logs/wandb").glob(f"offline-run-*-{run_id}*"))
        assert [row["a"] for row in wandb_file.read(folders).rows] == list(range(1, 20))


def test_a_core_that_hangs_is_ended_when_the_sink_is_abandoned(tmp_path: Path) -> None:
    sink = make_sink(make_context(tmp_path / "run"), {"mode": "offline", "dir": str(tmp_path / "logs")})
    sink.open(None)
    sink.write([metrics(seq, a=float(seq)) for seq in range(1, 20)])
    (core,) = wandb_core_children()
    os.kill(core, signal.SIGSTOP)
    closing = threading.Thread(target=sink.close, args=("finished",))
    closing.start()
    sink.abandon()
    closing.join(60)
    assert not closing.is_alive()

    assert [row["a"] for row in wandb_file.read(tmp_path / "logs").rows] == list(range(1, 20))


def test_an_id_that_a_failed_start_has_left_in_the_core_is_freed(tmp_path: Path) -> None:
    options = {"mode": "offline", "dir": str(tmp_path / "logs")}
    one, two = (make_sink(make_context(tmp_path / run_id, run_id=run_id), options) for run_id in ("one", "two"))
    one.open(None)
    one.write([metrics(seq, a=float(seq)) for seq in range(1, 20)])
    settings = wandb.Settings(console="off", silent=True)
    wandb.init(mode="offline", id="two", dir=tmp_path, reinit="create_new", settings=settings)
    with pytest.raises(TransientError, match="is in use"):
        two.open(None)
    two.open(None)
    two.write([metrics(seq, a=float(seq)) for seq in range(1, 20)])
    for sink in (one, two):
        wait_until(confirms(sink, 19))
        sink.close("finished")
    for run_id in ("one", "two"):
        folders = sorted((tmp_path / "logs/wandb").glob(f"offline-run-*-{run_id}*"))
        assert [row["a"] for row in wandb_file.read(folders).rows] == list(range(1, 20))


def test_a_record_gone_when_it_is_handed_over_anew_is_told(tmp_path: Path) -> None:
    sink = make_sink(make_context(tmp_path / "run"), {**OPTIONS, "dir": str(tmp_path / "logs")})
    sink.open(None)
    folder = tmp_path / "run/models/1"
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(b"weights")
    record = Model(seq=1, time=1.0, name="m", path="models/1")
    sink.write([record, metrics(2, a=2.0)])
    kill_core()
    (folder / "model.pt").unlink()
    folder.rmdir()
    sink._options = {"mode": "offline", "dir": str(tmp_path / "logs")}  # type: ignore[attr-defined]

    with pytest.raises(RejectedError, match="model m: ") as caught:
        wait_until(confirms(sink, 2))

    assert caught.value.records == (record,)
    wait_until(confirms(sink, 2))
    sink.close("finished")


def test_credentials_lost_under_way_leave_everything_owed(
    tmp_path: Path, server: WandbServer, ledger: RecordingLedger
) -> None:
    sink = make_sink(make_context(tmp_path / "run", ledger), {"mode": "online", "dir": str(tmp_path / "logs")})
    sink.open(None)
    sink.write([metrics(1, a=1.0)])
    wait_until(confirms(sink, 1))
    kill_core()
    server.refuse = 401
    records = [metrics(seq, a=float(seq)) for seq in range(2, 30)]
    told: list[str] = []

    def written() -> bool:
        try:
            sink.confirmed()  # where the writes went into a socket that nobody reads, this finds out
            sink.write(records)
        except TransientError as error:
            told.append(str(error))
            return False
        return True

    wait_until(lambda: not written() and any("credentials" in words for words in told), 60.0)
    server.refuse = None
    wait_until(written, 60.0)
    wait_until(confirms(sink, 29), 60.0)
    sink.close("finished")

    assert [row["a"] for row in server.runs[RUN_ID].rows] == list(range(1, 30))


def test_an_orphaned_core_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "LINGER_S", 0.05)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as lingering:
        found = service._started(lingering.pid)
        assert found is not None
        core = {"host": socket.gethostname(), "pid": lingering.pid, "parent": -1, "started": found[0]}

        with pytest.raises(TransientError, match=f"pid {lingering.pid}"):
            service.wait_for_the_end_of(core)
        service.wait_for_the_end_of({**core, "parent": os.getpid()})  # it serves others
        service.wait_for_the_end_of({**core, "host": "elsewhere"})
        service.wait_for_the_end_of({**core, "started": "0"})  # the number was given to another since
    service.wait_for_the_end_of(core)
