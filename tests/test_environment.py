from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from rl_logging.run import environment, repository
from rl_logging.sinks import Program

GIT = shutil.which("git")
needs_git = pytest.mark.skipif(GIT is None, reason="needs git")


def program(cwd: Path, main: Path | None = None, *arguments: str) -> Program:
    argv = (str(main) if main else "-c", *arguments)
    return Program(
        pid=os.getpid(), argv=argv, cwd=str(cwd), executable=sys.executable, main=str(main) if main else None
    )


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    command = ["git", "-C", str(root), *identity, "-c", "commit.gpgsign=false", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=180).stdout.strip()


@pytest.fixture(autouse=True)
def _time_for_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests ask git and others is answered, however slow the machine is."""
    for limit in ("COMMAND_S", "PATCH_S"):
        monkeypatch.setattr(repository, limit, 60.0)
    monkeypatch.setattr(environment, "NVIDIA_SMI_S", 60.0)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A repository with one commit."""
    root = tmp_path / "work"
    root.mkdir()
    git(root, "init", "-q")
    (root / "train.py").write_text("print('one')\n")
    (root / "data.bin").write_bytes(bytes(range(256)))
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def captured(tmp_path: Path, of: Program) -> tuple[dict[str, Any], dict[str, str], bool, Path]:
    run_dir = tmp_path / "run"
    run_dir.mkdir(exist_ok=True)
    facts, patched = environment.capture(run_dir, of)
    assert sorted(path.name for path in run_dir.iterdir()) == (["diff.patch"] if patched else []) + ["environment.json"]
    return json.loads((run_dir / "environment.json").read_text()), facts, patched, run_dir / "diff.patch"


def test_what_is_told_without_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    told, facts, patched, _ = captured(tmp_path, program(tmp_path, None, "--lr=1"))
    assert not patched
    assert told["git"] is None
    assert told["argv"] == ["-c", "--lr=1"]
    assert told["python"]["version"] == platform.python_version()
    assert told["host"] == socket.gethostname()
    assert told["cpu"]["count"] == os.cpu_count()
    assert told["memory_bytes"]["total"] > 1 << 28
    assert facts == {
        "source": "-c",
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
    }


def test_the_packages_are_those_that_python_would_import(tmp_path: Path) -> None:
    told, *_ = captured(tmp_path, program(tmp_path))
    for name in ("numpy", "msgspec", "torch"):
        assert told["packages"][name] == metadata.version(name)
    assert len(told["packages"]) >= len({str(dist.name).lower() for dist in metadata.distributions()}) - 2


@needs_git
def test_a_clean_repository(tmp_path: Path, work: Path) -> None:
    git(work, "remote", "add", "origin", "https://me:s3cr3t@example.org/a.git")
    told, facts, patched, _ = captured(tmp_path, program(work, work / "train.py"))
    head = git(work, "rev-parse", "HEAD")
    assert not patched
    assert told["git"] == {
        "root": str(work),
        "commit": head,
        "branch": "main",
        "remote": "https://example.org/a.git",
        "dirty": False,
        "untracked": [],
        "untracked_count": 0,
        "notes": [],
    }
    assert facts["git_commit"] == head
    assert facts["git_branch"] == "main"
    assert facts["git_remote"] == "https://example.org/a.git"
    assert facts["source"] == str(work / "train.py")


@needs_git
def test_uncommitted_changes_can_be_applied_again(tmp_path: Path, work: Path) -> None:
    git(work, "config", "diff.noprefix", "true")
    git(work, "config", "color.ui", "always")
    (work / "train.py").write_text("print('two')\n")
    (work / "data.bin").write_bytes(bytes(range(255, -1, -1)))
    (work / "new ü.txt").write_text("untracked")
    (work / "staged.py").write_text("x = 1\n")
    git(work, "add", "staged.py")
    told, _, patched, patch = captured(tmp_path, program(work))
    assert patched
    assert told["git"]["dirty"] is True
    assert told["git"]["untracked"] == ["new ü.txt"]
    assert b"untracked" not in patch.read_bytes()
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(work), str(clone))
    git(clone, "apply", str(patch))
    for name in ("train.py", "data.bin", "staged.py"):
        assert (clone / name).read_bytes() == (work / name).read_bytes()


@needs_git
def test_a_large_patch_is_cut_after_a_whole_file(tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "PATCH_BYTES_MOST", 4000)
    for name in ("a.py", "b.py", "c.py"):
        (work / name).write_text("x = 1\n" * 200)
        git(work, "add", name)
    told, _, patched, patch = captured(tmp_path, program(work))
    assert patched
    assert patch.stat().st_size < 4200
    assert any("the files within 4000 bytes" in note for note in told["git"]["notes"])
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(work), str(clone))
    git(clone, "apply", str(patch))
    assert (clone / "a.py").exists()
    assert (clone / "b.py").exists()
    assert not (clone / "c.py").exists()


@needs_git
def test_the_main_files_repository_comes_before_the_working_directorys(tmp_path: Path, work: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    told, *_ = captured(tmp_path, program(other, work / "train.py"))
    assert told["git"]["root"] == str(work)
    told, *_ = captured(tmp_path, program(work, Path(os.__file__)))
    assert told["git"]["root"] == str(work)
    installed = other / "site-packages"
    installed.mkdir()
    told, *_ = captured(tmp_path, program(work, installed / "tool.py"))
    assert told["git"]["root"] == str(work), "an installed program's repository is not the user's work"


@needs_git
def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q")
    (tmp_path / "empty" / "a.py").write_text("x")
    told, facts, patched, _ = captured(tmp_path, program(tmp_path / "empty"))
    assert not patched
    assert told["git"]["commit"] is None
    assert told["git"]["untracked"] == ["a.py"]
    assert "git_commit" not in facts


@needs_git
def test_a_detached_head_has_no_branch(tmp_path: Path, work: Path) -> None:
    git(work, "checkout", "-q", "--detach")
    told, facts, *_ = captured(tmp_path, program(work))
    assert told["git"]["branch"] is None
    assert "git_branch" not in facts


@needs_git
def test_nothing_that_the_repository_configures_is_run(tmp_path: Path, work: Path) -> None:
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "diff.external", "core.pager", "diff.t.textconv"):
        git(work, "config", key, str(trap))
    (work / ".gitattributes").write_text("*.py diff=t\n")
    (work / "train.py").write_text("print('two')\n")
    _, _, patched, _ = captured(tmp_path, program(work))
    assert patched
    assert not (tmp_path / "sprung").exists()


@needs_git
def test_a_git_that_hangs_costs_a_bounded_time(tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    slow = tmp_path / "bin" / "git"
    slow.write_text(f'#!/bin/sh\ncase "$*" in *show-toplevel*) exec {GIT} "$@";; *) exec sleep 60;; esac\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def found(of: Program) -> repository.Repository | None:
        there = repository.find_repository(of)
        for limit in ("COMMAND_S", "PATCH_S"):  # from here on git hangs
            monkeypatch.setattr(repository, limit, 0.2)
        return there

    monkeypatch.setattr(environment, "find_repository", found)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(captured(tmp_path, program(work))), daemon=True)
    thread.start()
    thread.join(50)
    assert results, "capture still waits for git"
    told, _, patched, _ = results[0]
    assert not patched
    assert told["git"]["commit"] is None
    assert told["git"]["dirty"] is None


def test_without_git_or_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told, _, patched, _ = captured(tmp_path, program(tmp_path))
    assert told["git"] is None
    assert told["gpus"] == []
    assert not patched


def test_what_nvidia_smi_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, NVIDIA H200, GPU-1234, 143771 MiB, 570.1'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    told, *_ = captured(tmp_path, program(tmp_path))
    assert told["gpus"] == [
        {
            "index": "0",
            "name": "NVIDIA H200",
            "uuid": "GPU-1234",
            "memory.total": "143771 MiB",
            "driver_version": "570.1",
        }
    ]


def test_variables_by_name_and_never_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {
        "SLURM_JOB_ID": "42",
        "SLURM_JWT": "s3cr3t",
        "LOCAL_RANK": "1",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "PYTHONPATH": "/a:https://me:s3cr3t@host/x",
        "AWS_SECRET_ACCESS_KEY": "s3cr3t",
        "WANDB_API_KEY": "s3cr3t",
        "MY_OWN": "s3cr3t",
    }.items():
        monkeypatch.setenv(key, value)
    of = program(tmp_path, None, "--api-key=s3cr3t", "--token", "s3cr3t", "--uri=http://me:s3cr3t@h", "--seed=3")
    told, facts, *_ = captured(tmp_path, of)
    assert told["scheduler"]["SLURM_JOB_ID"] == "42"
    assert told["scheduler"]["SLURM_JWT"] == "***"
    assert told["ranks"]["LOCAL_RANK"] == "1"
    assert told["variables"]["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert told["argv"][1:] == ["--api-key=***", "--token", "***", "--uri=http://***@h", "--seed=3"]
    assert "s3cr3t" not in json.dumps([told, facts])


def test_a_directory_that_cannot_be_written_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        environment.capture(tmp_path / "nowhere", program(tmp_path))


def test_capturing_imports_nothing_heavy_and_touches_no_device(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from rl_logging.run import environment
from rl_logging.sinks import Program
environment.capture(Path("."), Program(pid=1, argv=("a",), cwd=".", executable="python"))
print({"torch", "mlflow", "wandb"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=True)
    assert done.stdout.strip() == "set()"
