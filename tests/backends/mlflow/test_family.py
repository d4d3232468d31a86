"""Runs below others: nested whichever of the two comes first, and never waiting for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from rl_logging.records import Metrics
from rl_logging_mlflow import family
from tests.support.mlflow_driver import CREATED, Bench, Store

NESTED = "mlflow.parentRunId"


def metric(seq: int) -> Metrics:
    return Metrics(seq=seq, time=CREATED + seq, step=seq, values={"a": float(seq)})


def make_child(parent: Bench, folder: Path, options: dict[str, Any] | None = None) -> Bench:
    return Bench(parent.uri, folder, {"experiment": parent.experiment} | (options or {}), parent_id=parent.bundle_id)


def test_a_child_is_nested_at_once(store: Store, tmp_path: Path) -> None:
    parent = Bench(store.uri, tmp_path / "parent")
    child = make_child(parent, tmp_path / "child")
    parent.open()
    child.open()
    assert child.run().data.tags[NESTED] == parent.run_id
    assert child.run().data.tags["rl_logging.parent"] == parent.bundle_id
    assert NESTED not in parent.run().data.tags


def test_a_parent_takes_in_the_children_that_came_before(store: Store, tmp_path: Path) -> None:
    parent = Bench(store.uri, tmp_path / "parent")
    children = [make_child(parent, tmp_path / f"child{index}") for index in range(2)]
    for child in children:
        child.deliver([metric(1)])
        assert NESTED not in child.run().data.tags
    parent.open()
    assert [child.run().data.tags[NESTED] for child in children] == [parent.run_id] * 2


def test_a_child_that_nests_itself_meanwhile_keeps_no_other_out(
    sqlite_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = Bench(sqlite_uri, tmp_path / "parent")
    children = [make_child(parent, tmp_path / f"child{index}") for index in range(3)]
    for child in children:
        child.deliver([metric(1)])
    set_tag, refused = MlflowClient.set_tag, []

    def second_of_two(self: MlflowClient, run_id: str, key: str, value: Any) -> None:
        set_tag(self, run_id, key, value)
        if key == NESTED and not refused:
            refused.append(run_id)
            raise MlflowException("UNIQUE constraint failed: tags.key, tags.run_uuid", error_code=BAD_REQUEST)

    monkeypatch.setattr(MlflowClient, "set_tag", second_of_two)
    parent.open()
    assert refused
    assert [child.run().data.tags[NESTED] for child in children] == [parent.run_id] * 3
    assert not parent.ledger.warnings


def test_a_child_looks_again_where_both_came_at_once(
    sqlite_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family.Family, "take_in", lambda self: None)
    parent = Bench(sqlite_uri, tmp_path / "parent")
    early, late = (make_child(parent, tmp_path / name) for name in ("early", "late"))
    sinks = [early.open(), late.open()]
    parent.open()
    sinks[0].write([metric(1)])
    assert NESTED not in early.run().data.tags, "it does not ask at every write"
    monkeypatch.setattr(family, "LOOK_EVERY_S", 0.0)
    sinks[0].write([metric(2)])
    assert early.run().data.tags[NESTED] == parent.run_id
    monkeypatch.undo()
    sinks[1].close("finished")
    assert late.run().data.tags[NESTED] == parent.run_id


def test_a_child_without_its_parent_stands_alone(sqlite_uri: str, tmp_path: Path) -> None:
    child = Bench(sqlite_uri, tmp_path / "child", parent_id="nobody")
    child.deliver([metric(1)])
    assert child.run().info.status == "FINISHED"
    assert child.run().data.tags["rl_logging.parent"] == "nobody"
    assert NESTED not in child.run().data.tags


def test_a_child_goes_to_its_parents_experiment(store: Store, tmp_path: Path) -> None:
    parent = Bench(store.uri, tmp_path / "parent")
    parent.open()
    child = make_child(parent, tmp_path / "child", {"experiment": f"{parent.experiment}-other"})
    child.open()
    assert child.run().info.experiment_id == parent.run().info.experiment_id
    assert child.run().data.tags[NESTED] == parent.run_id
    lost = make_child(parent, tmp_path / "child", {"experiment": f"{parent.experiment}-other"})
    lost.bundle_id = child.bundle_id
    lost.open()
    assert lost.run_id == child.run_id, "it is found again where the answer to its creation was lost"


def test_children_of_runs_that_share_an_adopted_one(sqlite_uri: str, tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri=sqlite_uri)
    experiment = client.create_experiment(f"owned-{tmp_path.name}")
    theirs = client.create_run(experiment).info.run_id
    for index in range(2):
        parent = Bench(sqlite_uri, tmp_path / f"parent{index}", {"run_id": theirs, "experiment": None})
        parent.open()
        child = make_child(parent, tmp_path / f"child{index}")
        child.open()
        assert child.run().data.tags[NESTED] == theirs
        assert child.run().info.experiment_id == experiment


def test_children_of_a_run_that_went_back_are_below_the_one_that_goes_on(store: Store, tmp_path: Path) -> None:
    first = Bench(store.uri, tmp_path / "parent")
    first.open()
    before, racing, own = (make_child(first, tmp_path / name) for name in ("before", "racing", "own"))
    before.deliver([metric(1)])
    sink = racing.open()
    own.open()
    client = MlflowClient(store.uri)
    mine = client.create_run(first.run().info.experiment_id, tags={NESTED: first.run_id}).info.run_id

    second = Bench(store.uri, tmp_path / "parent", {"experiment": first.experiment}, supersedes=first.state)
    second.bundle_id = f"{first.bundle_id}--2"
    second.open()
    assert [it.run().data.tags[NESTED] for it in (before, racing, own)] == [second.run_id] * 3
    assert client.get_run(mine).data.tags[NESTED] == first.run_id, "what a user has nested stays"

    client.set_tag(racing.run_id, NESTED, first.run_id)  # it had found the first a moment before
    sink.close("finished")
    assert racing.run().data.tags[NESTED] == second.run_id
    after = make_child(first, tmp_path / "after")
    after.open()
    assert after.run().data.tags[NESTED] == second.run_id

    client.delete_run(second.run_id)
    lonely = make_child(first, tmp_path / "lonely")
    lonely.open()
    assert lonely.run().data.tags[NESTED] == first.run_id


def test_a_run_whose_predecessor_is_not_known_any_more_names_none(sqlite_uri: str, tmp_path: Path) -> None:
    bench = Bench(sqlite_uri, tmp_path / "run", supersedes={})
    bench.open()
    assert "rl_logging.resumed_from" not in bench.run().data.tags
