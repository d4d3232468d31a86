"""SIGTERM, as schedulers and containers send it: real processes that die of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import states
from rl_logging.testing.files import FileStore
from tests.support.processes import children

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to be handled")

LOOP = """
work = threading.Event()
print("ready", flush=True)
while True:
    logger.log_metrics({"a": 1.0})
    work.wait(0.001)
"""


@contextmanager
def training(
    folder: Path, script: str, *, before: str = "", wrapper: Sequence[str] = (), **options: object
) -> Iterator[subprocess.Popen[str]]:
    """Runs a program with an open logger, and gives it when it has said a line."""
    sink = {"file": {"factory": "rl_logging.testing.files:make", "path": str(folder / "out.jsonl"), **options}}
    head = f"""
import os, signal, sys, threading
{before}
from rl_logging import ExperimentLogger
settings = {{"finish_timeout_s": 600, "grace_s": float(os.environ.get("GRACE_S", 30)), "dir": "runs"}}
logger = ExperimentLogger({{"rl_logging": settings}}, sinks={sink!r}, name="x", id="mine", quiet=True)
"""
    command = [*wrapper, sys.executable, "-c", head + script]
    with (
        (folder / "stderr.txt").open("w") as stderr,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", (folder / "stderr.txt").read_text()
            yield process
        finally:
            process.kill()


def stored_steps(folder: Path) -> list[int | None]:
    return [step for _, step, _ in FileStore(folder / "out.jsonl").points()]


def owed(folder: Path) -> int:
    ((_, state, _),) = states(Bundle(folder / "runs" / "x-mine")).values()
    return 0 if state.phase == "done" else -1


def test_the_run_is_delivered_and_killed_and_the_process_dies_of_sigterm(tmp_path: Path) -> None:
    with training(tmp_path, LOOP) as process:
        process.terminate()
        assert process.wait(180) == -signal.SIGTERM
        # Looked at once: a container would have taken the delivery process along.
        assert FileStore(tmp_path / "out.jsonl").status("mine") == "killed"
        steps = stored_steps(tmp_path)
        assert steps == list(range(len(steps)))


def test_what_is_being_named_and_written_comes_first(tmp_path: Path) -> None:
    script = """
from rl_logging.extraction.names import NameTable

pipeline = logger.pipeline(NameTable({}))
log = pipeline._log

def interrupted(values, step):
    if step == 5:
        os.kill(os.getpid(), signal.SIGTERM)
    log(values, step)

pipeline._log = interrupted
print("ready", flush=True)
for step in range(10):
    pipeline.record("loss", step / 2)
    pipeline.emit(step)
signal.pause()
"""
    with training(tmp_path, script) as process:
        assert process.wait(180) == -signal.SIGTERM
    assert FileStore(tmp_path / "out.jsonl").status("mine") == "killed"
    assert [(step, value) for _, step, value in FileStore(tmp_path / "out.jsonl").points()] == [
        (step, step / 2) for step in range(10)
    ]


def test_a_wait_that_begins_just_as_it_comes_again_is_ended(tmp_path: Path) -> None:
    script = """
kill, sent = os.kill, []

def seldom_noticed(pid, number):
    sent.append(number)
    if len(sent) > 2:  # those before come as Python is about to call `pause`, which they do not end
        kill(pid, number)

def interrupted(fd, data):
    os.write = write
    kill(os.getpid(), signal.SIGTERM)
    return write(fd, data)

write, os.write, os.kill = os.write, interrupted, seldom_noticed
logger.log_metrics({"a": 1.0})
print("ready", flush=True)
signal.pause()
"""
    with training(tmp_path, script) as process:
        assert process.wait(180) == -signal.SIGTERM
    assert FileStore(tmp_path / "out.jsonl").status("mine") == "killed"
    assert stored_steps(tmp_path) == [0]


def test_a_handler_of_the_user_s_is_respected(tmp_path: Path) -> None:
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    for place in ("before", "after"):
        folder = tmp_path / place
        folder.mkdir()
        given = {"before": handler} if place == "before" else {}
        with training(folder, (handler if place == "after" else "") + LOOP, **given) as process:
            process.terminate()
            assert process.wait(180) == 7
        assert FileStore(folder / "out.jsonl").status("mine") == "failed"


def test_a_handler_that_exits_in_the_middle_of_a_write_ends_the_run_as_failed(tmp_path: Path) -> None:
    script = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
write = os.write

def interrupted(fd, data):
    os.write = write
    written = write(fd, data)
    os.kill(os.getpid(), signal.SIGTERM)
    return written

print("ready", flush=True)
os.write = interrupted
logger.log_metrics({"a": 1.0})
"""
    with training(tmp_path, script) as process:
        assert process.wait(180) == 7
    assert FileStore(tmp_path / "out.jsonl").status("mine") == "failed"
    assert stored_steps(tmp_path) == [0]


@pytest.mark.parametrize("script", [LOOP, "print('ready', flush=True); logger.log_metrics({'a': 1}); logger.finish()"])
def test_the_grace_time_bounds_the_wait_for_a_store_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    hangs = tmp_path / "hangs"
    hangs.touch()
    monkeypatch.setenv("GRACE_S", "0.3")
    with training(tmp_path, script, hang_while=str(hangs)) as process:
        process.terminate()
        # Its `finish` alone would wait for 600 s.
        assert process.wait(180) == -signal.SIGTERM
    hangs.unlink()
    assert FileStore(tmp_path / "out.jsonl").wait_for(lambda it: it.status("mine") not in (None, "running"), 90)


def test_forked_workers_die_of_it_at_once_and_alone(tmp_path: Path) -> None:
    script = """
pid = os.fork()
if pid == 0:
    while True:
        signal.pause()
os.kill(pid, signal.SIGTERM)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
logger.log_metrics({"a": 1.0})
logger.finish()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
print("ready", flush=True)
"""
    with training(tmp_path, script) as process:
        assert process.wait(180) == 0
    assert FileStore(tmp_path / "out.jsonl").status("mine") == "finished"


def test_without_grace_it_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRACE_S", "0")
    script = "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL" + LOOP
    with training(tmp_path, script) as process:
        process.terminate()
        assert process.wait(180) == -signal.SIGTERM


def test_a_container_s_first_process_ends_with_everything_delivered(tmp_path: Path) -> None:
    """The kernel lets the first process of a PID namespace ignore SIGTERM, and ends the others with it."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare(1)")
    wrapper = ["unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--pid", "--fork", "--kill-child"]
    tried = subprocess.run([*wrapper, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"namespaces are not permitted here: {tried.stderr.strip()}")
    with training(tmp_path, LOOP, wrapper=wrapper) as process:
        (first,) = children("rl_logging", process.pid)
        os.kill(first, signal.SIGTERM)
        assert process.wait(180) == 128 + signal.SIGTERM
    assert FileStore(tmp_path / "out.jsonl").status("mine") == "killed"
    steps = stored_steps(tmp_path)
    assert steps == list(range(len(steps)))
    assert owed(tmp_path) == 0
