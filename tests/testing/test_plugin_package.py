"""The tutorial's plugin, installed as a third party's package would be, and tested by its own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rl_logging

PACKAGE = Path(__file__).parents[1] / "plugin_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installs the package; returns the folder to add to the path."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "rl-logging-jsonl"
    # From a copy: a build must leave nothing in the repository.
    _copy(PACKAGE, source)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    options = ["--no-build-isolation", "--no-index", "--target", str(target), str(source)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return target


def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    _copy(PACKAGE, tmp_path / "checkout")
    done = run_in(installed, tmp_path / "checkout", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    # What is tested is the installed package, found by its entry point.
    assert not (tmp_path / "checkout" / "src" / "rl_logging_jsonl" / "__pycache__").exists()


def test_it_is_found_and_its_options_are_checked(installed: Path, tmp_path: Path) -> None:
    script = """
from rl_logging import ExperimentLogger, SettingsError
try:
    ExperimentLogger(sinks={"jsonl": {"foldr": "runs"}})
except SettingsError as error:
    print(error)
"""
    done = run_in(installed, tmp_path, "-c", script)
    assert "jsonl.foldr: there is no such option; known are folder, files" in done.stdout, done.stderr


def test_it_is_made_without_its_package_too(installed: Path, tmp_path: Path) -> None:
    """The shortest form of a sink, as the tutorial shows it: a callable, named."""
    (tmp_path / "my_sinks.py").write_text(
        "from pathlib import Path\n"
        "from rl_logging_jsonl.sink import JsonLinesSink\n"
        "def make(name, context, options):\n"
        "    return JsonLinesSink(context, Path(options['folder']))\n"
    )
    script = """
from rl_logging import ExperimentLogger
sinks = {"mine": {"factory": "my_sinks:make", "folder": "store"}}
with ExperimentLogger(sinks=sinks, delivery="thread") as logger:
    logger.log_metrics({"loss": 0.5}, step=1)
print(logger.status()["mine"].pending, logger.url("mine"))
"""
    done = run_in(installed, tmp_path, "-c", script)
    pending, url = done.stdout.split()
    assert pending == "0", done.stderr
    assert '"body": {"loss": 0.5}' in Path(url).read_text()


def run_in(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    above = Path(rl_logging.__file__).parents[1]
    path = os.pathsep.join([str(site), str(folder), str(above)])
    environ = {**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True, timeout=180, check=False
    )


def _copy(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
