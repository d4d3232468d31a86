"""A program that is killed while it makes its run: the directory it leaves keeps no id, and can be deleted."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import filelock
import pytest

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle, Claim, Manifest, find, ids
from rl_logging.bundle.unmade import is_unmade
from rl_logging.locks import Lock
from rl_logging.settings.sections import SettingsError
from tests.support.bundles import make_bundle
from tests.support.processes import run_script, start_script
from tests.test_cli import cli

KILLED = """
import os, signal, sys
from rl_logging import ExperimentLogger
from rl_logging.bundle import directory

def kill(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(directory, sys.argv[1], kill)
ExperimentLogger(sinks=[], dir="runs", name=sys.argv[2], id="job", resume="auto", quiet=True)
"""

RACER = """
import sys
from rl_logging import ExperimentLogger
from rl_logging.locks import Lock
from rl_logging.settings.sections import SettingsError

print("ready", flush=True)
sys.stdin.readline()
try:
    logger = ExperimentLogger(sinks=[], dir="runs", name=sys.argv[1], id="job", delivery="offline", quiet=True)
except SettingsError as error:
    print("refused", error, flush=True)
else:
    logger.log_metrics({"x": 1.0}, step=1)
    print("made", flush=True)
    sys.stdin.readline()
    logger.finish()
"""


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def leave_unmade(folder: Path, moment: str = "write_atomically", name: str = "mine") -> Path:
    """Has a program killed while it makes the run `job` in ``runs``; returns the directory it leaves."""
    assert run_script(KILLED, folder, [moment, name]).returncode == -signal.SIGKILL
    return folder / "runs" / f"{name}-job"


def offline(folder: Path, **keywords: Any) -> ExperimentLogger:
    keywords = {"name": "mine", "id": "job", **keywords}
    return ExperimentLogger(sinks=[], dir=folder / "runs", delivery="offline", quiet=True, **keywords)


@pytest.mark.parametrize("resume", [False, "auto"])
@pytest.mark.parametrize(("moment", "left"), [("Claim", False), ("write_atomically", True)])
@pytest.mark.parametrize("name", ["mine", "another"])
def test_its_id_is_free(tmp_path: Path, moment: str, left: bool, name: str, resume: Any) -> None:
    directory = leave_unmade(tmp_path, moment)
    assert (directory / "writer.lock").exists() is left
    with offline(tmp_path, name=name, resume=resume) as logger:
        logger.log_metrics({"x": 1.0}, step=1)
        assert not logger.resumed
        with pytest.raises(SettingsError, match="'job' is taken" if resume is False else "is being written by"):
            offline(tmp_path, name=name, resume=resume)
    assert logger.run_dir == tmp_path / "runs" / f"{name}-job"
    assert Bundle(logger.run_dir).manifest.id == "job"
    with offline(tmp_path, resume=True) as again:
        assert again.run_dir == logger.run_dir


@pytest.mark.parametrize(
    ("killed", "names"),
    [(True, ("mine", "mine", "mine")), (False, ("mine", "mine", "mine")), (True, ("mine", "another", "third"))],
)
def test_of_several_that_race_for_an_id_one_gets_it(tmp_path: Path, killed: bool, names: tuple[str, ...]) -> None:
    if killed:
        leave_unmade(tmp_path)
    racers = [start_script(RACER, tmp_path, [name]) for name in names]
    try:
        assert [racer.stdout.readline() for racer in racers if racer.stdout] == ["ready\n"] * 3
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        said = [racer.stdout.readline() for racer in racers if racer.stdout]
        for racer in racers:
            racer.communicate(timeout=180)  # closes what it reads, at which it ends
    finally:
        for racer in racers:
            racer.kill()
            with racer:  # closes its pipes
                racer.wait()
    assert sum(line == "made\n" for line in said) == 1, said
    assert sum(line.startswith("refused rl_logging.id: 'job' is taken") for line in said) == 2, said
    (made,) = find(tmp_path / "runs")
    assert Bundle(made).manifest.id == "job"
    assert not (tmp_path / "runs" / ".job.lock").exists()


@pytest.fixture(params=["locks", "leases"])
def _locking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "leases":

        def refuse(*arguments: object, **options: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(filelock.FileLock, "acquire", refuse)


@pytest.mark.usefixtures("_locking")
def test_an_id_that_another_name_is_just_getting_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "WAIT_S", 0.0)
    create = Bundle.create

    def meanwhile(path: Path, manifest: Manifest) -> tuple[Bundle, Claim]:
        monkeypatch.setattr(Bundle, "create", create)
        with pytest.raises(SettingsError, match="'job' is taken: another process is just beginning a run of it"):
            offline(tmp_path, name="another")
        offline(tmp_path, name="another", id="other").finish()
        return create(path, manifest)

    monkeypatch.setattr(Bundle, "create", meanwhile)
    with offline(tmp_path), pytest.raises(SettingsError, match=r"'job' is taken: .*mine-job is there already; resume"):
        offline(tmp_path, name="another")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [".gitignore", "another-other", "mine-job"]


def test_a_disk_that_takes_no_run_leaves_the_id_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("rl_logging.bundle.directory.write_atomically", full)
        with pytest.raises(SettingsError, match=r"cannot be made: .*No space left"):
            offline(tmp_path)
    offline(tmp_path, name="another").finish()
    assert not (tmp_path / "runs" / ".job.lock").exists()


def test_one_that_is_just_being_made_is_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "mine-job"
    directory.mkdir(parents=True)
    claim = Claim(directory, lambda: 1)
    try:
        assert is_unmade(directory)
        with pytest.raises(SettingsError, match="just being made"):
            offline(tmp_path)
        assert "stays: it is just being made" in cli("clean", "--yes", tmp_path / "runs").stdout
    finally:
        claim.abandon()
    offline(tmp_path).finish()


def test_who_comes_late_finds_the_run_and_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = leave_unmade(tmp_path)

    manifest = make_bundle(tmp_path, run_id="job").manifest

    def late(path: Path, first_seq: Any) -> Claim:
        monkeypatch.undo()
        Bundle.create(path, manifest)[1].release(0)  # all of another's run, between the look and the claim
        return Claim(path, first_seq)

    monkeypatch.setattr("rl_logging.bundle.directory.Claim", late)
    with pytest.raises(SettingsError, match="'job' is taken"):
        offline(tmp_path)
    writer = Bundle(directory).writer()
    assert writer is not None
    assert writer.released, "its run's end is still told"


def test_what_is_the_users_own_is_never_taken_over(tmp_path: Path) -> None:
    directory = leave_unmade(tmp_path)
    (directory / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="just being made, or damaged"):
        offline(tmp_path)
    assert "holds none" in cli("clean", "--yes", directory).stderr
    assert os.listdir(directory)


def test_it_is_told_and_cleaned(tmp_path: Path) -> None:
    directory = leave_unmade(tmp_path)
    words = f"{directory} holds no run: its program ended before it had made one"
    assert words in cli("sync", directory).stderr
    assert "stays: it is not that old" in cli("clean", "--yes", "--older-than", 1, directory).stdout
    with offline(tmp_path, name="other", id="other") as other:
        other.log_metrics({"x": 1.0}, step=1)
    listed = cli("status", tmp_path / "runs")
    assert (listed.exit_code, words in listed.stderr) == (0, True)
    done = cli("clean", "--yes", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert "goes: no run was made in it" in done.stdout
    assert not directory.exists()
    assert other.run_dir.exists()


def test_who_has_locked_what_was_removed_meanwhile_locks_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acquire = Lock.acquire

    def late(self: Lock) -> bool:
        monkeypatch.undo()
        assert acquire(self)
        (tmp_path / ".job.lock").unlink()  # as whoever held it until then
        return True

    monkeypatch.setattr(Lock, "acquire", late)
    monkeypatch.setattr(ids, "WAIT_S", 0.0)
    with (
        ids.beginning("job", tmp_path),
        pytest.raises(SettingsError, match="just beginning"),
        ids.beginning("job", tmp_path),
    ):
        raise AssertionError("two at once")
