"""Runs below others: what a child takes over, and that both stores show them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from rl_logging import ExperimentLogger, SettingsError
from rl_logging.bundle import Bundle, find
from rl_logging.records import Record
from rl_logging.sinks import SinkContext
from rl_logging.testing.memory import MemoryStore
from tests.support.processes import run_script
from tests.support.wandb_file import offline_directories, read

OTHER_PROCESS = """
import sys
from rl_logging import ExperimentLogger
with ExperimentLogger({"lr": 3}, name="elsewhere", dir="other", sinks={
    "mlflow": {"tracking_uri": sys.argv[1], "experiment": "elsewhere"}, "wandb": {"mode": "offline", "dir": "other"}
}) as logger:
    logger.log_metrics({"a": 3.0}, step=1)
"""


def offline(tmp_path: Path, **keywords: Any) -> ExperimentLogger:
    given = {"dir": tmp_path / "runs", "delivery": "offline", "sinks": [], "quiet": True, **keywords}
    return ExperimentLogger(given.pop("config", None), **given)


def manifests(tmp_path: Path) -> dict[str, Any]:
    return {(it := Bundle(path).manifest).name: it for path in find(tmp_path / "runs")}


def test_a_child_is_a_run_beside_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RL_LOGGING_ID", "chosen")
    config = {"rl_logging": {"names": "both", "finish_timeout_s": 7}, "lr": 1}
    with (
        offline(tmp_path, config=config, name="sweep", project="p", tags=["t"], notes="n") as parent,
        parent.child("one", {"lr": 2}) as one,
        parent.child("two", {"rl_logging": {"names": "native"}}) as two,
        one.child("grandchild"),
    ):
        assert (one.settings.names, one.settings.finish_timeout_s, one.settings.delivery) == ("both", 7, "offline")
        assert two.settings.names == "native"
    found = manifests(tmp_path)
    assert found["sweep"].parent is None
    assert found["sweep"].group is None
    for name in ("one", "two"):
        run = found[name]
        assert (run.parent, run.parent_dir, run.group) == ("chosen", "../sweep-chosen", "sweep-chosen")
        assert (run.project, run.tags, run.notes) == ("p", ("t",), None)
        assert len(run.id) == 8
    assert found["grandchild"].parent == found["one"].id
    assert found["grandchild"].group == "sweep-chosen"


def test_a_parents_group_is_its_childrens(tmp_path: Path) -> None:
    with offline(tmp_path, name="sweep", group="seeds") as parent, parent.child("one"):
        pass
    assert manifests(tmp_path)["one"].group == "seeds"


@pytest.mark.parametrize("by", ["directory", "id", "environment", "section"])
def test_a_parent_is_named_across_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    with offline(tmp_path, name="sweep", id="top", project="p"):
        pass
    directory = tmp_path / "runs" / "sweep-top"
    if by == "environment":
        monkeypatch.setenv("RL_LOGGING_PARENT", str(directory))
    given: dict[str, Any] = {"directory": {"parent": directory}, "id": {"parent": "top"}}.get(by, {})
    config = {"rl_logging": {"parent": "top"}} if by == "section" else None
    with offline(tmp_path, config=config, name="one", **given):
        pass
    run = manifests(tmp_path)["one"]
    assert (run.parent, run.parent_dir, run.group, run.project) == ("top", "../sweep-top", "sweep-top", "p")


def test_a_parent_out_of_reach_is_an_id(tmp_path: Path) -> None:
    with offline(tmp_path, name="one", parent="elsewhere"):
        pass
    run = manifests(tmp_path)["one"]
    assert (run.parent, run.parent_dir, run.group) == ("elsewhere", None, "elsewhere")


@pytest.mark.parametrize("wrong", ["no/such/run", "", 3, {"id": "x"}])
def test_what_is_no_parent_is_said(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(SettingsError, match=r"parent: .*run"):
        offline(tmp_path, config={"rl_logging": {"parent": wrong}})


def test_a_run_is_not_its_own_parent(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"parent: 'me' is the run itself"):
        offline(tmp_path, id="me", parent="me")


@pytest.mark.parametrize("key", ["parent", "ranks"])
def test_what_a_child_would_not_heed_is_said(tmp_path: Path, key: str) -> None:
    with offline(tmp_path) as parent:
        with pytest.raises(SettingsError, match=rf"^{key}: child\(\) does not take it"):
            parent.child(**{key: "all"})
        assert len(list(find(parent.run_dir.parent))) == 1


def test_a_child_of_a_logger_that_does_nothing_does_nothing(tmp_path: Path) -> None:
    with offline(tmp_path, delivery="disabled") as parent, parent.child("one", {"lr": 1}) as child:
        child.log_metrics({"a": 1.0})
    assert not (tmp_path / "runs").exists()


def test_a_child_is_not_made_of_a_copy_in_another_process(tmp_path: Path) -> None:
    import pickle

    with offline(tmp_path) as parent:
        copy = pickle.loads(pickle.dumps(parent))
        with pytest.raises(SettingsError, match=r"rl_logging\.parent: .*runs"):
            copy.child("one")


class OneRun:
    """A sink that is an object already, and so serves one run."""

    accepts: frozenset[type[Record]] = frozenset()

    def open(self, state: Mapping[str, Any] | None) -> Mapping[str, Any]:
        return {"id": "one"}

    def write(self, batch: Sequence[Record], /) -> None:
        raise AssertionError("it takes nothing")

    def confirmed(self) -> int:
        return 0

    def close(self, status: str | None, /) -> None:
        pass


def test_sinks_are_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    contexts: list[SinkContext] = []

    def make(name: str, context: SinkContext, options: Any) -> Any:
        contexts.append(context)
        return store.make(name, context, options)

    with offline(tmp_path, delivery="thread", id="top", sinks={"mine": make, "one": OneRun()}) as parent:
        with parent.child("child") as child:
            child.log_metrics({"a": 1.0}, step=1)
        with parent.child("none", {"rl_logging": {"sinks": []}}) as none:
            assert none.status() == {}
    assert sorted((it.name, it.parent_id) for it in contexts)[0] == ("child", "top")
    assert [it.parent_id for it in contexts if it.name != "child"] == [None]
    assert set(child.status()) == {"mine"}
    assert "a sink object serves one run" in caplog.text


def test_both_stores_show_them_together(tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from another process, with another experiment, and with an id in the environment that is the parent's."""
    sinks = {"mlflow": {"tracking_uri": mlflow_uri, "run_name": "the-sweep"}, "wandb": {"mode": "offline", "dir": "w"}}
    monkeypatch.setenv("WANDB_RUN_ID", "theirs")
    (tmp_path / "w").mkdir()
    with ExperimentLogger(name="sweep", id="top", project="p", sinks=sinks, quiet=True) as parent:
        with parent.child("here", {"lr": 2}) as child:
            child.log_metrics({"a": 2.0}, step=1)
        monkeypatch.setenv("RL_LOGGING_PARENT", str(parent.run_dir))
        done = run_script(OTHER_PROCESS, tmp_path, [mlflow_uri], timeout_s=300)
        assert done.returncode == 0, done.stderr
    client = MlflowClient(tracking_uri=mlflow_uri)
    experiment = client.get_experiment_by_name("p")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"the-sweep", "here", "elsewhere"}
    for name in ("here", "elsewhere"):
        assert runs[name].data.tags["mlflow.parentRunId"] == runs["the-sweep"].info.run_id
    folders = [*offline_directories(tmp_path / "w"), *offline_directories(tmp_path / "other")]
    stored = {run.name: run for run in map(read, folders)}
    assert {name: (run.group, run.job_type) for name, run in stored.items()} == {
        "sweep": ("", ""),
        "here": ("sweep-top", "child"),
        "elsewhere": ("sweep-top", "child"),
    }
    assert len({folder.name.split("-", 3)[3] for folder in folders}) == 3, "the environment's id is the parent's alone"
