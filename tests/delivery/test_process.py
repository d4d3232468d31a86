"""The delivery process, with real processes and real kills; the store is a file that outlives them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import DestinationFile, destinations, states
from rl_logging.delivery import process as process_module
from rl_logging.delivery.process import Server
from rl_logging.launch import booting, child
from rl_logging.launch.child import DeliveryProcess
from rl_logging.messages import Left, Serve
from rl_logging.processes import started_at, wait_for_end
from rl_logging.testing.files import FileStore
from tests.support.bundles import make_bundle


def sink(path: Path, **options: Any) -> dict[str, Any]:
    return {"file": {"factory": "rl_logging.testing.files:make", "path": str(path), **options}}


@pytest.fixture(autouse=True)
def _own_processes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A delivery process for each test, which waits for no further run."""
    monkeypatch.setattr(booting, "LINGER_S", 0.0)
    DeliveryProcess.forget_all()
    yield
    DeliveryProcess.forget_all()


def process_of() -> DeliveryProcess:
    (process,) = DeliveryProcess._shared.values()
    return process


def ended(pid: int) -> bool:
    """Waits for a process's end; True once it is gone."""
    stop = threading.Event()
    timer = threading.Timer(90, stop.set)
    timer.start()
    try:
        started = started_at(pid)
        return started is None or wait_for_end(pid, started, stop)
    finally:
        timer.cancel()


def run_script(folder: Path, script: str, *, delivery: str = "process") -> subprocess.CompletedProcess[str]:
    head = f"""
import os, signal, sys
from rl_logging import ExperimentLogger
logger = ExperimentLogger(sinks={sink(folder / "out.jsonl")!r}, dir="runs", name="x", id="mine", delivery={delivery!r})
"""
    return subprocess.run(
        [sys.executable, "-c", head + script], cwd=folder, capture_output=True, text=True, timeout=180
    )


def await_delivery(folder: Path) -> FileStore:
    """Waits until the delivery process of the run in `folder` is done with it."""
    store = FileStore(folder / "out.jsonl")
    assert store.wait_for(lambda it: it.status("mine") not in (None, "running"), 90)
    bundle = Bundle(folder / "runs" / "x-mine")
    reached = threading.Event()
    for _ in range(9000):
        if all(state.phase == "done" for _, state, _ in states(bundle).values()):
            return store
        reached.wait(0.01)
    raise AssertionError(states(bundle))


def test_records_reach_the_store_through_a_process_of_its_own(tmp_path: Path) -> None:
    with ExperimentLogger(sinks=sink(tmp_path / "out.jsonl"), dir=tmp_path / "runs", quiet=True) as logger:
        for step in range(1000):
            logger.log_metrics({"a": step}, step=step)
        assert logger.flush(60)
        pid = process_of().pid
        assert pid not in (None, os.getpid())
        assert os.getsid(pid) == pid != os.getsid(0)
    store = FileStore(tmp_path / "out.jsonl")
    assert store.points() == [("a", step, float(step)) for step in range(1000)]
    assert store.status() == "finished"
    assert ended(pid)
    assert "serving" in Bundle(logger.run_dir).delivery_log.read_text()


def test_one_process_serves_several_runs_and_ends_with_its_work(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    first = ExperimentLogger(sinks=sink(path), dir=tmp_path / "runs", quiet=True)
    pid = process_of().pid
    second = ExperimentLogger(sinks=sink(path), dir=tmp_path / "runs", quiet=True)
    assert process_of().pid == pid
    first.log_metrics({"a": 1})
    second.log_metrics({"b": 2})
    first.finish()
    assert process_of().pid == pid
    second.finish()
    assert pid is not None
    assert ended(pid)
    third = ExperimentLogger(sinks=sink(path), dir=tmp_path / "runs", quiet=True)
    third.log_metrics({"c": 3})
    third.finish()
    assert sorted(FileStore(path).points()) == [("a", 0, 1.0), ("b", 0, 2.0), ("c", 0, 3.0)]


def test_runs_one_after_the_other_use_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booting, "LINGER_S", 1000.0)
    path = tmp_path / "out.jsonl"
    pids = []
    for seed in range(3):
        with ExperimentLogger(sinks=sink(path), dir=tmp_path / "runs", quiet=True) as logger:
            logger.log_metrics({"a": seed})
            pids.append(process_of().pid)
        assert not logger._last_run._delivery.progress.active  # type: ignore[attr-defined]
        bundle = Bundle(logger.run_dir)
        assert not any(DestinationFile(bundle, entry).being_delivered() for entry in destinations(bundle))
        assert not process_of()._serving
    assert pids[0] is not None
    assert pids == [pids[0]] * 3
    assert started_at(pids[0]) is not None
    assert sorted(FileStore(path).points()) == [("a", 0, float(seed)) for seed in range(3)]
    os.kill(pids[0], signal.SIGKILL)
    assert ended(pids[0])


def test_the_process_that_waits_for_another_run_goes_with_the_training(tmp_path: Path) -> None:
    ran = run_script(
        tmp_path,
        f"""
from rl_logging.launch import booting
from rl_logging.launch.child import DeliveryProcess
logger.finish()
booting.LINGER_S = 1000.0
DeliveryProcess.forget_all()
for seed in range(2):
    with ExperimentLogger(sinks={sink(tmp_path / "out.jsonl")!r}, dir="runs", quiet=True) as logger:
        (process,) = DeliveryProcess._shared.values()
        print(process.pid, flush=True)
""",
    )
    assert ran.returncode == 0, ran.stderr
    first, second = map(int, ran.stdout.split())
    assert first == second
    assert ended(first)


def test_a_process_that_has_waited_in_vain_is_no_zombie(tmp_path: Path) -> None:
    with ExperimentLogger(sinks=sink(tmp_path / "out.jsonl"), dir=tmp_path / "runs", quiet=True) as logger:
        logger.log_metrics({"a": 1})
        process = process_of()
        pid = process.pid
    assert pid is not None
    assert ended(pid)
    pause = threading.Event()
    for _ in range(9000):
        if process.pid is None:
            break
        pause.wait(0.01)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_who_leaves_takes_up_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(process_module, "BundleDelivery", lambda *arguments, **_: made.append(arguments))
    # The training process sees the end of this one, and starts another for what it asked for.
    with open(os.devnull, "wb") as events:
        server = Server(events, 0.0)
        server._asked.set()
        server.wait()
        bundle = make_bundle(tmp_path)
        server._try_to_obey(Serve(str(bundle.path), 1.0, 0.01))
        assert not server._samplings
    assert not made


def test_other_environment_variables_mean_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    first = ExperimentLogger(sinks=sink(path), dir=tmp_path / "runs", quiet=True)
    monkeypatch.setenv("WANDB_API_KEY", "another")
    second = ExperimentLogger(sinks=sink(path), dir=tmp_path / "runs", quiet=True)
    assert len({process.pid for process in DeliveryProcess._shared.values()}) == 2
    first.finish()
    second.finish()


def test_what_torch_sets_in_its_own_process_means_no_other_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    with ExperimentLogger(sinks=sink(path), dir=tmp_path / "runs", quiet=True):
        for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
            monkeypatch.setenv(name, str(tmp_path))
        with ExperimentLogger(sinks=sink(path), dir=tmp_path / "runs", quiet=True):
            assert len({process.pid for process in DeliveryProcess._shared.values()}) == 1


def test_a_delivery_process_that_is_killed_is_started_again_and_nothing_is_doubled(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ExperimentLogger(sinks=sink(path), dir=tmp_path / "runs", quiet=True) as logger:
        for step in range(100):
            logger.log_metrics({"a": step}, step=step)
        assert logger.flush(60)
        killed = process_of().pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        for step in range(100, 200):
            logger.log_metrics({"a": step}, step=step)
        assert logger.flush(60)
        assert process_of().pid != killed
    assert FileStore(path).points() == [("a", step, float(step)) for step in range(200)]


def test_without_a_hello_a_thread_takes_over_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(booting, "BOOT", "import sys; sys.exit(3)")
    monkeypatch.setattr(child, "RESTART_AFTER_S", 0.01)
    with ExperimentLogger(sinks=sink(tmp_path / "out.jsonl"), dir=tmp_path / "runs", quiet=True) as logger:
        logger.log_metrics({"a": 1})
        assert logger.flush(60)
    assert FileStore(tmp_path / "out.jsonl").points() == [("a", 0, 1.0)]
    told = [record.getMessage() for record in caplog.records if "a thread of this one delivers" in record.getMessage()]
    assert len(told) == 1
    assert "exit code 3" in told[0]


def test_a_process_that_says_nothing_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(booting, "BOOT", "import sys; sys.stdin.read()")
    monkeypatch.setattr(child, "HELLO_S", 0.2)
    with ExperimentLogger(sinks=sink(tmp_path / "out.jsonl"), dir=tmp_path / "runs", quiet=True) as logger:
        logger.log_metrics({"a": 1})
        assert logger.flush(60)
    assert any("a thread of this one delivers" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("delivery", ["process", "thread"])
def test_both_modes_deliver_at_the_exit(tmp_path: Path, delivery: str) -> None:
    ran = run_script(tmp_path, "logger.log_metrics({'a': 1})", delivery=delivery)
    assert ran.returncode == 0, ran.stderr
    assert FileStore(tmp_path / "out.jsonl").points() == [("a", 0, 1.0)]
    assert FileStore(tmp_path / "out.jsonl").status() == "finished"


def test_ten_thousand_calls_then_sigkill_lose_nothing(tmp_path: Path) -> None:
    ran = run_script(
        tmp_path,
        "for i in range(10_000): logger.log_metrics({'a': i}, step=i)\nos.kill(os.getpid(), signal.SIGKILL)",
    )
    assert ran.returncode == -signal.SIGKILL
    store = await_delivery(tmp_path)
    assert store.points() == [("a", step, float(step)) for step in range(10_000)]
    assert store.status() == "killed"


def test_forked_workers_that_live_on_do_not_keep_the_run_open(tmp_path: Path) -> None:
    ran = run_script(
        tmp_path,
        """
logger.log_metrics({'a': 1})
ours, theirs = os.pipe()
for _ in range(2):
    if os.fork() == 0:
        os.close(theirs)
        for fd in (0, 1, 2):
            os.close(fd)
        os.read(ours, 1)
        os._exit(0)
    print(os.getpid(), flush=True)
# The workers live until somebody opens and closes this file's pipe: they are ended by the test.
os.kill(os.getpid(), signal.SIGKILL)
""",
    )
    # Killing the parent closes the writing end, so the workers end by themselves; delivery must not depend on it.
    assert ran.returncode == -signal.SIGKILL
    assert await_delivery(tmp_path).status() == "killed"


def test_workers_that_hold_every_pipe_do_not_keep_the_run_open(tmp_path: Path) -> None:
    pipe = tmp_path / "hold"
    os.mkfifo(pipe)
    ran = run_script(
        tmp_path,
        f"""
logger.log_metrics({{'a': 1}})
if os.fork() == 0:
    for fd in (0, 1, 2):
        os.close(fd)
    os.open({str(pipe)!r}, os.O_RDONLY)  # until the test opens the other end
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
""",
    )
    try:
        assert ran.returncode == -signal.SIGKILL
        assert await_delivery(tmp_path).status() == "killed"
    finally:
        os.close(os.open(pipe, os.O_WRONLY))


def test_sigterm_and_ctrl_c_are_not_for_the_delivery_process(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ExperimentLogger(sinks=sink(path), dir=tmp_path / "runs", quiet=True) as logger:
        logger.log_metrics({"a": 1})
        assert logger.flush(60)
        pid = process_of().pid
        assert pid is not None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
        logger.log_metrics({"a": 2})
        assert logger.flush(60)
        assert process_of().pid == pid
    assert len(FileStore(path).points()) == 2


def test_a_store_that_is_down_at_the_end_is_given_up_in_time_and_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "rl_logging")
    down = tmp_path / "down"
    down.touch()
    path = tmp_path / "out.jsonl"
    logger = ExperimentLogger(sinks=sink(path, down_while=str(down)), dir=tmp_path / "runs", name="x")
    logger.log_metrics({"a": 1})
    pid = process_of().pid
    logger.finish(timeout=60)
    assert pid is not None
    assert ended(pid)
    block = caplog.records[-1].getMessage()
    assert "still owed" in block
    assert f"rl-logging sync {logger.run_dir}" in block or "rl-logging sync runs/" in block
    down.unlink()
    from click.testing import CliRunner

    from rl_logging.cli import main

    assert CliRunner().invoke(main, ["sync", "--trust", str(logger.run_dir)]).exit_code == 0
    assert FileStore(path).points() == [("a", 0, 1.0)]
    assert FileStore(path).status() == "finished"


def test_a_store_that_is_back_just_before_the_end_is_asked_once_more(tmp_path: Path) -> None:
    down = tmp_path / "down"
    down.touch()
    path = tmp_path / "out.jsonl"
    with ExperimentLogger(sinks=sink(path, down_while=str(down)), dir=tmp_path / "runs", quiet=True) as logger:
        logger.log_metrics({"a": 1})
        progress = logger._last_run._delivery.progress  # type: ignore[attr-defined]
        assert progress.wait(lambda: [it.phase for it in progress.states.values()] == ["backoff"], 60)
        progress.moved_at -= 1000  # as if it had been down for long
        down.unlink()
    assert FileStore(path).points() == [("a", 0, 1.0)]
    assert FileStore(path).status() == "finished"


def test_credentials_reach_the_child_by_environment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tattle.py").write_text(
        """
import json, os, sys
from rl_logging.testing.files import FileSink
def make(name, context, options):
    with open(options["path"] + ".seen", "w") as file:
        json.dump({"token": options["token"], "argv": open(f"/proc/{os.getpid()}/cmdline").read()}, file)
    return FileSink(context, options["path"])
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "out.jsonl"
    sinks = {"tattle": {"factory": "tattle:make", "path": str(path), "token": "hunter2"}}
    with ExperimentLogger(sinks=sinks, dir=tmp_path / "runs", quiet=True) as logger:
        logger.log_metrics({"a": 1})
    seen = json.loads((tmp_path / "out.jsonl.seen").read_text())
    assert seen["token"] == "hunter2"
    assert "hunter2" not in seen["argv"]
    assert b"hunter2" not in b"".join(file.read_bytes() for file in logger.run_dir.rglob("*") if file.is_file())


def test_a_hostile_working_directory_is_not_imported_from(tmp_path: Path) -> None:
    for name in ("msgspec", "filelock", "pluggy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hostile')")
    # The training process itself is started where nothing of that is on its path.
    ran = subprocess.run(
        [
            sys.executable,
            "-P" if sys.version_info >= (3, 11) else "-I",
            "-c",
            "from rl_logging import ExperimentLogger\n"
            f"with ExperimentLogger(sinks={sink(tmp_path / 'out.jsonl')!r}) as logger: logger.log_metrics({{'a': 1}})",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ran.returncode == 0, ran.stderr
    assert FileStore(tmp_path / "out.jsonl").points() == [("a", 0, 1.0)]


def test_a_stopped_delivery_process_never_blocks_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    logger = ExperimentLogger(sinks=sink(path), dir=tmp_path / "runs", quiet=True)
    logger.log_metrics({"a": 1})
    assert logger.flush(60)
    pid = process_of().pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        for step in range(3000):  # more commands than a pipe holds
            logger.log_metrics({"a": step})
            assert not logger.flush(timeout=0)
        logger.finish(timeout=0.2)
    finally:
        os.kill(pid, signal.SIGCONT)
    # Nobody waits any more, yet it goes on by itself.
    assert ended(pid)
    store = FileStore(path)
    assert len(store.points()) == 3001
    assert store.status() == "finished"


def test_a_worker_that_holds_the_pipes_freezes_no_delivery(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    ran = run_script(
        tmp_path,
        f"""
if os.fork() == 0:
    for fd in (0, 1, 2):
        os.close(fd)
    os.open({str(hold)!r}, os.O_RDONLY)  # until the test opens the other end
    os._exit(0)
for i in range(3000):
    logger.log_metrics({{f'name {{i}} ' + 'x' * 50: i}}, step=i)
os.kill(os.getpid(), signal.SIGKILL)
""",
    )
    try:
        assert ran.returncode == -signal.SIGKILL
        assert len(await_delivery(tmp_path).points()) == 3000
    finally:
        os.close(os.open(hold, os.O_WRONLY))


def test_a_damaged_state_is_put_aside_and_delivery_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ExperimentLogger(sinks=sink(path), dir=tmp_path / "runs", quiet=True) as logger:
        logger.log_metrics({"a": 1})
    bundle = Bundle(logger.run_dir)
    (state,) = bundle.sinks.glob("file-*.json")
    state.write_bytes(b"")
    from click.testing import CliRunner

    from rl_logging.cli import main

    assert CliRunner().invoke(main, ["status", str(logger.run_dir)]).exit_code == 0
    assert CliRunner().invoke(main, ["sync", "--trust", str(logger.run_dir)]).exit_code == 0
    assert FileStore(path).points() == [("a", 0, 1.0)]
    assert list(bundle.sinks.glob("*.damaged"))


def test_a_process_that_dies_again_and_again_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mortal.py").write_text(
        """
import os
from rl_logging.testing.files import FileSink
class Mortal(FileSink):
    def write(self, batch):
        if os.getpid() != int(os.environ["TRAINER"]):
            os._exit(1)
        super().write(batch)
def make(name, context, options):
    return Mortal(context, options["path"])
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TRAINER", str(os.getpid()))
    monkeypatch.setattr(child, "RESTART_AFTER_S", 0.01)
    sinks = {"mortal": {"factory": "mortal:make", "path": str(tmp_path / "out.jsonl")}}
    with ExperimentLogger(sinks=sinks, dir=tmp_path / "runs", quiet=True) as logger:
        logger.log_metrics({"a": 1})
        assert logger.flush(60)
    assert FileStore(tmp_path / "out.jsonl").points() == [("a", 0, 1.0)]
    told = [record.getMessage() for record in caplog.records]
    assert sum("a thread of this one delivers" in text for text in told) == 1
    assert sum("is started again" in text for text in told) == 1


def test_finish_in_a_signal_handler_neither_hangs_nor_loses_the_end(tmp_path: Path) -> None:
    ran = run_script(
        tmp_path,
        """
def handler(*_):
    logger.finish("killed")
    os._exit(7) if not logger._last_run._journal.interrupted else sys.exit(7)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.3)
while True:
    logger.log_metrics({'a': 1})
""",
    )
    assert ran.returncode == 7, ran.stderr
    assert await_delivery(tmp_path).status() == "killed"


class Part:
    """Stands for a run's delivery, so that the order of what the process says can be chosen."""

    patience_s = 1.0
    system_metrics_s = None

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.has_left = False

    def left(self) -> None:
        self.has_left = True


def test_the_last_word_of_a_run_s_first_part_does_not_end_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeliveryProcess, "_start", lambda self: None)  # no process: its words come from here
    bundle = make_bundle(tmp_path)
    process = DeliveryProcess({}, tmp_path)
    first, second = Part(bundle), Part(bundle)
    process.serve(first)  # type: ignore[arg-type]
    process.serve(second)  # type: ignore[arg-type]
    assert first.has_left
    process._hear(Left(str(bundle.path), part=0))
    assert not second.has_left
    process._hear(Left(str(bundle.path), part=1))
    assert second.has_left
