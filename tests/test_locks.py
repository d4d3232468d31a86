from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import msgspec
import pytest

from rl_logging import leases
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
    os.utime(lease, (touched, touched - 2 * leases.SILENCE_S))
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
    os.utime(lease, (touched, touched - 2 * leases.HEARTBEAT_S))
    with Lock(tmp_path / "a.lock").wait():
        assert not Lock(tmp_path / "a.lock").acquire()


STALE = leases._Holder(host=socket.gethostname(), boot_id="an earlier boot", pid=1, started=0.0, token="stale")
OTHERS = msgspec.structs.replace(STALE, host=f"not {socket.gethostname()}", token="theirs")


def write(lease: Path, holder: leases._Holder) -> None:
    lease.write_bytes(msgspec.json.encode(holder))


class Beats:
    """Counts the heartbeat's reads of a lease, the first `fail` of which raise `error`."""

    def __init__(self, lease: Path, *, fail: int = 0, error: int = errno.EIO) -> None:
        self._lease = lease
        self._fail = fail
        self._error = error
        self._read = leases._read
        self._seen = 0
        self._change = threading.Condition()

    def __call__(self, path: Path) -> leases._Holder | None:
        if path != self._lease or threading.current_thread().name != "rl_logging-lease":
            return self._read(path)
        with self._change:
            self._seen += 1
            self._change.notify_all()
            if self._seen <= self._fail:
                raise OSError(self._error, os.strerror(self._error), str(path))
        return self._read(path)

    def wait(self, more: int) -> None:
        """Waits for so many further beats to begin, however many there were before."""
        with self._change:
            count = self._seen + more
            assert self._change.wait_for(lambda: self._seen >= count, timeout=180), "the heartbeat has ended"


@pytest.fixture
def lock(tmp_path: Path, without_locks: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lock]:
    """A lease with a fast heartbeat, not yet held."""
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.01)
    lock = Lock(tmp_path / "a.lock")
    yield lock
    lock.release()


def test_the_heartbeat_touches_the_lease(tmp_path: Path, lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = tmp_path / "a.lease"
    beats = Beats(lease)
    monkeypatch.setattr(leases, "_read", beats)
    assert lock.acquire()
    os.utime(lease, (0, 0))
    beats.wait(3)
    assert lease.stat().st_mtime > 0


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE])
def test_a_lease_that_cannot_be_read_for_a_while_is_not_lost(
    tmp_path: Path, lock: Lock, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    lease = tmp_path / "a.lease"
    beats = Beats(lease, fail=3, error=error)
    monkeypatch.setattr(leases, "_read", beats)
    assert lock.acquire()
    os.utime(lease, (0, 0))
    beats.wait(6)  # of which three at most failed
    assert lease.stat().st_mtime > 0
    assert not lock.lost


def test_the_holder_is_told_when_another_has_taken_it_over(
    tmp_path: Path, lock: Lock, caplog: pytest.LogCaptureFixture
) -> None:
    before = set(threading.enumerate())
    assert lock.acquire()
    assert not lock.lost
    other = tmp_path / "other"
    write(other, OTHERS)
    (beat,) = set(threading.enumerate()) - before
    os.replace(other, tmp_path / "a.lease")
    beat.join(timeout=180)
    assert lock.lost
    assert "a.lease was taken over by another process" in caplog.text
    lock.release()
    assert json.loads((tmp_path / "a.lease").read_text())["token"] == "theirs"


def test_a_lease_that_somebody_deleted_is_put_back(tmp_path: Path, lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    beats = Beats(tmp_path / "a.lease")
    monkeypatch.setattr(leases, "_read", beats)
    assert lock.acquire()
    (tmp_path / "a.lease").unlink()
    beats.wait(4)
    assert not lock.lost
    assert not Lock(tmp_path / "a.lock").acquire()
    lock.release()
    assert list(tmp_path.glob("*a.lease*")) == []


def test_a_lease_is_given_back_on_a_full_disk(tmp_path: Path, lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lock.acquire()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    lock.release()
    assert list(tmp_path.glob("*a.lease*")) == []


def test_a_lease_in_doubt_is_not_taken(tmp_path: Path, lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.lease", STALE)

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as broken:
        broken.setattr(leases, "_read", fail)
        assert not lock.acquire()
    assert json.loads((tmp_path / "a.lease").read_text())["token"] == "stale"
    assert lock.acquire()


def test_who_took_over_and_was_killed_at_it_is_taken_over_from(tmp_path: Path, lock: Lock) -> None:
    write(tmp_path / "a.lease", STALE)
    heir = tmp_path / ".a.lease.stale.heir"
    write(heir, msgspec.structs.replace(STALE, host=OTHERS.host))
    assert not lock.acquire()  # it may be at work, on the other machine
    write(heir, msgspec.structs.replace(STALE, token="killed"))
    assert lock.acquire()
    lock.release()
    assert list(tmp_path.glob("*a.lease*")) == []


class Interleaving:
    """Has other takers run, from start to end, before the nth step that a lease does on the file system."""

    def __init__(self, takers: dict[int, Callable[[], object]]) -> None:
        self.steps = 0
        self._takers = takers

    def wrap(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            if taker := self._takers.pop(self.steps, None):
                taker()
            return inner(*args, **kwargs)

        return step


def three_takers(lease: Path, second: int, third: int, patch: pytest.MonkeyPatch) -> int:
    """Has three take a stale lease, two of them in the middle of it; returns how many steps that took in all."""
    write(lease, STALE)
    takers = [leases.Lease(lease) for _ in range(3)]
    took: list[leases.Lease] = []

    def take(which: int) -> None:
        if takers[which].take():
            took.append(takers[which])

    steps = Interleaving({second: lambda: take(1), third: lambda: take(2)})
    with patch.context() as stepping:
        stepping.setattr(leases, "_read", steps.wrap(leases._read))
        for name in ("link", "rename", "replace", "unlink"):
            stepping.setattr(os, name, steps.wrap(getattr(os, name)))
        take(0)
    assert len(took) == 1, f"{len(took)} holders when the others come at steps {second} and {third}"
    assert took[0]._is_ours()
    took[0].leave()
    assert list(lease.parent.glob("*a.lease*")) == []
    return steps.steps


def test_of_three_who_take_a_stale_lease_one_gets_it(
    tmp_path: Path, without_locks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "SETTLING_S", 0.0)
    lease, most = tmp_path / "a.lease", 0
    alone = three_takers(lease, -1, -1, monkeypatch)
    assert alone > 5
    for second in range(1, alone + 1):
        third = second
        while third <= max(most, alone):
            third += 1
            most = max(most, three_takers(lease, second, third, monkeypatch))


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Lock(tmp_path / "file" / "a.lock").acquire()


def test_a_lock_whose_file_was_removed_says_so(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "a.lock"), Lock(tmp_path / "a.lock")
    assert first.acquire()
    assert first.is_there
    (tmp_path / "a.lock").unlink()
    assert not first.is_there
    assert second.acquire()
    assert second.is_there
    assert not first.is_there
    first.release()
    second.release()
