from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from rl_logging import locks
from rl_logging.locks import Lock
from tests.support import no_locks

pytestmark = pytest.mark.skipif(not no_locks.possible(), reason="needs a seccomp filter to refuse file locks")

HOLD = """
import sys
from pathlib import Path
from rl_logging.locks import Lock
lock = Lock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
lock.release()
"""


class Holder:
    """A process that tries to take a lock, with or without the kernel's help, and holds it until it is ended."""

    def __init__(self, path: Path, *, native: bool = False) -> None:
        wrapper = [] if native else [sys.executable, no_locks.__file__]
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.has_it = self.process.stdout.readline() == "True\n"

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("native", [True, False])
def test_one_process_has_it_until_it_lets_go(tmp_path: Path, native: bool) -> None:
    path = tmp_path / "a.lock"
    with Holder(path, native=native) as first:
        assert first.has_it
        with Holder(path, native=native) as second:
            assert not second.has_it
    with Holder(path, native=native) as third:
        assert third.has_it


@pytest.mark.parametrize("native", [True, False])
def test_a_holder_that_is_killed_has_it_no_more(tmp_path: Path, native: bool) -> None:
    path = tmp_path / "a.lock"
    with Holder(path, native=native) as first:
        first.kill()
    with Holder(path, native=native) as second:
        assert second.has_it


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file locks in this process either; its own kernel cannot be asked to without never giving them back."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)


def test_the_lease_of_another_machine_is_left_when_it_is_silent(tmp_path: Path, without_locks: None) -> None:
    path, lease = tmp_path / "a.lock", tmp_path / "a.lease"
    words = {"host": f"not {socket.gethostname()}", "boot_id": "x", "pid": 1, "started": 1.0, "token": "theirs"}
    lease.write_text(json.dumps(words))
    assert not Lock(path).acquire()
    touched = lease.stat().st_mtime
    os.utime(lease, (touched, touched - 2 * locks.SILENCE_S))
    lock = Lock(path)
    assert lock.acquire()
    assert not lock.native
    assert json.loads(lease.read_text())["host"] == socket.gethostname()
    lock.release()
    assert list(tmp_path.glob("*a.lease*")) == []


def test_a_lease_that_cannot_be_read_is_left_alone_for_a_while(tmp_path: Path, without_locks: None) -> None:
    lease = tmp_path / "a.lease"
    lease.write_bytes(b"")
    assert not Lock(tmp_path / "a.lock").acquire()
    touched = lease.stat().st_mtime
    os.utime(lease, (touched, touched - 2 * locks.HEARTBEAT_S))
    with Lock(tmp_path / "a.lock").wait():
        assert not Lock(tmp_path / "a.lock").acquire()


def test_the_heartbeat_touches_the_lease(tmp_path: Path, without_locks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.01)
    lock, lease = Lock(tmp_path / "a.lock"), tmp_path / "a.lease"
    assert lock.acquire()
    os.utime(lease, (0, 0))
    with Holder(tmp_path / "b.lock", native=True):  # whose start is the pause
        pass
    assert lease.stat().st_mtime > 0
    lock.release()


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Lock(tmp_path / "file" / "a.lock").acquire()
