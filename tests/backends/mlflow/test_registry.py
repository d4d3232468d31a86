"""Registered models, in the store's own registry."""

from __future__ import annotations

import uuid
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from rl_logging.records import Model
from rl_logging_mlflow.registry import registered_alias, registered_name
from tests.support.mlflow_driver import CREATED, Bench


def model(bench: Bench, seq: int, name: str, *aliases: str) -> Model:
    bench.place(f"models/m/step_{seq}/model.pt", f"weights {seq}")
    path = f"models/m/step_{seq}"
    return Model(seq=seq, time=CREATED, step=seq, name="m", path=path, aliases=aliases, register=name)


def aliases(client: MlflowClient, name: str) -> dict[str, int]:
    """Returns the version of each alias; a server gives them as text."""
    return {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}


def versions(client: MlflowClient, name: str) -> dict[int, str]:
    """Returns each version's record."""
    found = client.search_model_versions(f"name='{name}'")
    return {int(version.version): version.tags["rl_logging.record"] for version in found}


def test_each_record_is_one_version_also_after_a_repeat(bench: Bench, tmp_path: Path) -> None:
    name = f"cartpole-{uuid.uuid4().hex[:8]}"
    records = [model(bench, 1, name, "best", "first"), model(bench, 2, name, "best")]
    bench.deliver(records)
    bench.deliver(records)  # as after a crash that forgot what was confirmed
    client = MlflowClient(bench.uri)
    assert versions(client, name) == {1: f"{bench.bundle_id}/1", 2: f"{bench.bundle_id}/2"}
    assert aliases(client, name) == {"best": 2, "first": 1}
    assert client.get_model_version(name, "1").run_id == bench.run_id
    mlflow.set_tracking_uri(bench.uri)
    try:
        home = Path(mlflow.artifacts.download_artifacts(f"models:/{name}@best", dst_path=str(tmp_path)))
    finally:
        mlflow.set_tracking_uri(None)
    assert (home / "model.pt").read_text() == "weights 2"
    assert bench.ledger.names == bench.ledger.warnings == []


def test_names_the_registry_refuses_are_cleaned_and_told(bench: Bench) -> None:
    unique = uuid.uuid4().hex[:8]
    bench.deliver([model(bench, 1, f"team/cart: pole {unique}", "latest", "v1", "top run")])
    client = MlflowClient(bench.uri)
    name = f"team-cart-pole {unique}"
    assert aliases(client, name) == {"alias-latest": 1, "alias-v1": 1, "top-run": 1}
    assert bench.ledger.names == [
        (f"registered model team/cart: pole {unique}", name),
        ("alias latest", "alias-latest"),
        ("alias v1", "alias-v1"),
        ("alias top run", "top-run"),
    ]
    # What the run's own tags are called stays as it was.
    assert bench.run().data.tags["models/m/v1"] == "models/m/step_1"


def test_a_registry_that_refuses_is_told_and_the_model_is_stored(
    sqlite_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rl_logging_mlflow.registry.registered_name", lambda name: name)
    sqlite_bench.deliver([model(sqlite_bench, 1, "a/b")])
    assert "models/m/step_1/model.pt" in sqlite_bench.files("models")
    (warning,) = sqlite_bench.ledger.warnings
    assert warning.startswith("'m' is stored, but not registered as 'a/b': ")


@pytest.mark.parametrize(
    ("given", "name", "alias"),
    [
        ("cartpole-ppo", "cartpole-ppo", "cartpole-ppo"),
        ("a/b:c", "a-b-c", "a-b-c"),
        ('it\'s "x"', "it-s-x", "it-s-x"),
        ("..", "model", "alias"),
        ("", "model", "alias"),
        ("Latest", "Latest", "alias-Latest"),
        ("V12", "V12", "alias-V12"),
    ],
)
def test_names(given: str, name: str, alias: str) -> None:
    assert (registered_name(given), registered_alias(given)) == (name, alias)


def test_long_names_end_in_a_hash() -> None:
    assert len(registered_name("x" * 400)) == len(registered_alias("x" * 400)) == 250
    assert registered_name("x" * 400) != registered_name("x" * 401)
