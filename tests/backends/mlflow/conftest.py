from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mlflow_database import database
from tests.support.mlflow_driver import Bench, Store
from tests.support.mlflow_server import MlflowServer, running_mlflow_server


@pytest.fixture(autouse=True)
def _no_progress_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with running_mlflow_server(tmp_path_factory.mktemp("mlflow-server")) as running:
        yield running


@pytest.fixture(scope="session")
def sqlite_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return database(tmp_path_factory.mktemp("mlflow-sqlite") / "mlflow.db")


@pytest.fixture(params=["sqlite", "server"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "sqlite":
        return Store(request.getfixturevalue("sqlite_uri"))
    return Store(request.getfixturevalue("server").uri)


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> Bench:
    return Bench(store.uri, tmp_path / "run")


@pytest.fixture
def sqlite_bench(sqlite_uri: str, tmp_path: Path) -> Bench:
    return Bench(sqlite_uri, tmp_path / "run")


@pytest.fixture
def server_bench(server: MlflowServer, tmp_path: Path) -> Bench:
    return Bench(server.uri, tmp_path / "run")
