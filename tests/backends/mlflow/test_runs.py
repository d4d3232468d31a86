from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from rl_logging.records import Labels, Metrics, RunStatus
from rl_logging.sinks import RejectedError
from rl_logging_mlflow import tables
from tests.support.mlflow_driver import CREATED, Bench, Store, with_paths

MS = 1_700_000_000_250


def metric(seq: int) -> Metrics:
    return Metrics(seq=seq, time=CREATED + seq, step=seq, values={"a": float(seq)})


@pytest.mark.parametrize(
    ("status", "stored"), [("finished", "FINISHED"), ("failed", "FAILED"), ("killed", "KILLED"), (None, "RUNNING")]
)
def test_the_end_is_told_truly(sqlite_bench: Bench, status: RunStatus | None, stored: str) -> None:
    sink = sqlite_bench.deliver([metric(3)], status=status)
    sink.close("failed")
    info = sqlite_bench.run().info
    assert info.status == stored
    assert info.start_time == MS
    assert info.end_time == (MS + 3000 if status else None)
    assert sink.confirmed() == 3


def test_the_end_time_is_the_journals_even_if_all_was_delivered_before(sqlite_bench: Bench) -> None:
    sqlite_bench.deliver([metric(3)], status=None)
    sqlite_bench.deliver([], status="killed")
    assert sqlite_bench.run().info.end_time == MS + 3000


def test_what_mlflow_shows_of_a_run(store: Store, tmp_path: Path) -> None:
    bench = Bench(
        store.uri,
        tmp_path / "run",
        {"tags": {"team": "rl"}},
        tags=("baseline", "a(b)"),
        notes="my notes",
        group="sweep",
    )
    bench.deliver([])
    run = bench.run()
    assert run.info.run_name == "my run"
    tags = run.data.tags
    expected = {
        "mlflow.runName": "my run",
        "mlflow.source.name": "train.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": "my notes",
        "rl_logging.run_id": bench.bundle_id,
        "rl_logging.group": "sweep",
        "team": "rl",
        "baseline": "true",
        "a_b": "true",
    }
    assert {key: tags.get(key) for key in expected} == expected
    assert bench.client is not None
    found = bench.client.search_runs([run.info.experiment_id], "tags.baseline = 'true'")
    assert [one.info.run_id for one in found] == [bench.run_id]


def test_labels_replace_the_set_and_leave_other_tags(store: Store, tmp_path: Path) -> None:
    bench = Bench(store.uri, tmp_path / "run", {"tags": {"team": "rl"}}, tags=("one", "team"))
    labels = [
        Labels(seq=1, time=CREATED, tags=("two", "three")),
        Labels(seq=2, time=CREATED, notes="n" * 9000),
        Labels(seq=3, time=CREATED, tags=("three",)),
    ]
    bench.deliver(labels[:2], status=None)
    bench.deliver(labels)
    tags = bench.run().data.tags
    assert json.loads(tags["rl_logging.tags"]) == ["three"]
    assert "one" not in tags
    assert "two" not in tags
    assert tags["three"] == "true"
    assert tags["team"] == "rl"
    assert tags["mlflow.note.content"] == "n" * 8000
    assert [name for name, _ in bench.ledger.cut] == ["notes", "notes"]


def test_labels_with_a_key_are_tags_of_that_key(sqlite_bench: Bench) -> None:
    labels = ("task:CartPole-v1", "seed:1", "seed:2", "https://x", "mlflow.user:eve", "log_dir:C:/logs")
    sqlite_bench.deliver([Labels(seq=1, time=CREATED, tags=labels)], status=None)
    tags = sqlite_bench.run().data.tags
    expected = {"task": "CartPole-v1", "seed:1": "true", "seed:2": "true", "log_dir": "C:/logs"}
    assert {key: tags.get(key) for key in expected} == expected
    assert tags.get("mlflow.user") != "eve"
    assert not {"seed", "https"} & set(tags)
    sqlite_bench.deliver([Labels(seq=2, time=CREATED, tags=("task:Pendulum-v1",))])
    tags = sqlite_bench.run().data.tags
    assert tags["task"] == "Pendulum-v1"
    assert not {"seed:1", "log_dir"} & set(tags)


def test_a_run_whose_id_was_not_kept_is_found_again(bench: Bench) -> None:
    first = bench.open()
    first_id = bench.run_id
    first.close(None)
    bench.state = None
    bench.deliver([metric(1)])
    assert bench.run_id == first_id
    assert bench.client is not None
    assert len(bench.client.search_runs([bench.run().info.experiment_id])) == 1


def test_a_resumed_run_runs_again(sqlite_bench: Bench) -> None:
    sqlite_bench.deliver([metric(1)])
    sink = sqlite_bench.open()
    assert sqlite_bench.run().info.status == "RUNNING"
    sink.close("finished")
    assert sqlite_bench.run().info.status == "FINISHED"


def test_an_adopted_run_is_not_ended_nor_renamed(store: Store, tmp_path: Path) -> None:
    owner = MlflowClient(tracking_uri=store.uri)
    run = owner.create_run("0", run_name="theirs", tags={"mlflow.source.name": "their.py"})
    options: dict[str, Any] = {"run_id": run.info.run_id, "experiment": None, "tags": {"team": "rl"}}
    bench = Bench(store.uri, tmp_path / "run", options)
    bench.deliver([metric(1)])
    after = bench.run()
    assert bench.state == {**(bench.state or {}), "id": run.info.run_id, "adopted": True}
    assert (after.info.status, after.info.run_name) == ("RUNNING", "theirs")
    assert after.data.tags["mlflow.source.name"] == "their.py"
    assert after.data.tags["team"] == "rl"
    assert after.data.metrics == {"a": 1.0}


@pytest.mark.parametrize("status", ["FINISHED", "FAILED"])
def test_an_adopted_run_that_has_ended_takes_what_comes_late_and_stays_ended(
    sqlite_uri: str, tmp_path: Path, status: str
) -> None:
    owner = MlflowClient(tracking_uri=sqlite_uri)
    run = owner.create_run("0")
    owner.set_terminated(run.info.run_id, status=status, end_time=MS)
    bench = Bench(sqlite_uri, tmp_path / "run", {"run_id": run.info.run_id, "experiment": None})
    bench.deliver([metric(1)])
    after = bench.run()
    assert (after.info.status, after.info.end_time) == (status, MS)
    assert after.data.metrics == {"a": 1.0}


def test_children_nest_in_their_parents_experiment(store: Store, tmp_path: Path) -> None:
    parent = Bench(store.uri, tmp_path / "parent")
    parent.deliver([])
    child = Bench(store.uri, tmp_path / "child", {"parent_run_id": parent.run_id, "experiment": None})
    child.deliver([])
    assert child.run().info.experiment_id == parent.run().info.experiment_id
    assert child.run().data.tags["mlflow.parentRunId"] == parent.run_id
    assert child.ledger.warnings == []
    stray = Bench(store.uri, tmp_path / "stray", {"parent_run_id": parent.run_id})
    stray.deliver([])
    assert "within one experiment" in stray.ledger.warnings[0]


def test_a_deleted_experiment_says_what_to_do(bench: Bench) -> None:
    bench.deliver([])
    assert bench.client is not None
    bench.client.delete_experiment(bench.run().info.experiment_id)
    bench.state = None
    with pytest.raises(RejectedError, match="mlflow experiments restore"):
        bench.open()


def test_a_deleted_run_says_what_to_do(bench: Bench) -> None:
    bench.deliver([])
    sink = bench.open()
    assert bench.client is not None
    bench.client.delete_run(bench.run_id)
    with pytest.raises(RejectedError, match="mlflow runs restore") as caught:
        sink.write([metric(1), metric(2)])
    assert caught.value.records == ()
    with pytest.raises(RejectedError, match="mlflow runs restore"):
        bench.open()


def test_a_run_that_never_was_says_so(store: Store, tmp_path: Path) -> None:
    bench = Bench(store.uri, tmp_path / "run", {"run_id": "0" * 32, "experiment": None})
    with pytest.raises(RejectedError, match="never was"):
        bench.open()


OPEN_AT_ONCE = """
import os, sys
from pathlib import Path
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # once, and not in each of them
from tests.support.mlflow_driver import Bench

ready, go = os.pipe(), os.pipe()
children = []
for number in range(8):
    pid = os.fork()
    if not pid:
        os.close(go[1])
        bench = Bench(sys.argv[1], Path(sys.argv[2], f"run{number}"), {"experiment": "shared"})
        os.write(ready[1], b".")
        os.read(go[0], 1)  # until the parent closes its end
        bench.deliver([])
        os.write(1, f"{bench.run_id}\\n".encode())
        os._exit(0)
    children.append(pid)
os.close(ready[1])
assert all(os.read(ready[0], 1) for _ in children)
os.close(go[1])
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 8
"""


def test_eight_processes_on_a_fresh_database_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'fresh' / 'mlflow.db'}"
    command = [sys.executable, "-c", OPEN_AT_ONCE, uri, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=with_paths(), check=False)
    assert done.returncode == 0, done.stderr
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("shared")
    assert experiment is not None
    found = {run.info.run_id for run in client.search_runs([experiment.experiment_id])}
    assert found == set(done.stdout.split())
    assert len(found) == 8


KILLED_WHILE_MAKING_TABLES = """
import os, signal, sys, threading
from pathlib import Path
from rl_logging_mlflow import tables

path = Path(sys.argv[1])
HALF_BYTES = 300_000  # of the 950,000 of a whole one


def size(file):
    return file.stat().st_size if file.exists() else 0


def kill_in_the_middle():
    while not any(size(file) > HALF_BYTES for file in (path, *path.parent.glob("*.new"))):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


threading.Thread(target=kill_in_the_middle, daemon=True).start()
tables.ensure(f"sqlite:///{path}", path, path.parent / "mlruns")
"""


def test_a_kill_while_tables_are_made_leaves_no_half_of_them(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    command = [sys.executable, "-c", KILLED_WHILE_MAKING_TABLES, str(path)]
    killed = subprocess.run(command, capture_output=True, timeout=300, text=True, env=with_paths())
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    tables.ensure(f"sqlite:///{path}", path, tmp_path / "mlruns")
    assert MlflowClient(f"sqlite:///{path}").get_experiment("0").name == "Default"
