"""No test sees the stores, credentials or settings of whoever runs it."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from rl_logging.testing.memory import MemoryStore
from tests.support.mlflow_database import database

PRIVATE = ("RL_LOGGING_", "WANDB_", "MLFLOW_")
KEPT = {"RL_LOGGING_SKINNY_PYTHON"}

os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes is the machine's affair.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
# What a shell starts in the background ignores Ctrl-C, and so does all that it starts; the tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in list(os.environ):
        if variable.startswith(PRIVATE) and variable not in KEPT:
            monkeypatch.delenv(variable)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for variable in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(variable, str(home / variable.lower()))
    for variable in ("WANDB_SILENT", "WANDB_DISABLE_GIT", "WANDB_X_DISABLE_STATS", "WANDB_X_DISABLE_META"):
        monkeypatch.setenv(variable, "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    """Has the garbage collector see everything again: a command that a test calls here thinks the process its own."""
    yield
    if gc.get_freeze_count():
        gc.unfreeze()


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    """A new store in memory, which lets go at the end whoever waits in it."""
    made = MemoryStore()
    yield made
    made.restore()


@pytest.fixture
def mlflow_uri(tmp_path: Path) -> str:
    """A new MLflow store where the default one is, ``mlflow.db`` in the working directory."""
    return database(tmp_path / "mlflow.db")
