"""A store read back by what `rl_logging.retrieval` opens, databases and servers alike."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from rl_logging.records import Config, Metrics, Model
from rl_logging.retrieval import NoRunError, StoreError, find_runs, open_store
from rl_logging.stores import Store as ReadableStore
from rl_logging_mlflow.locations import locate
from tests.support.mlflow_driver import CREATED, Bench
from tests.support.mlflow_server import MlflowServer


def deliver(bench: Bench) -> ReadableStore:
    """Stores a run with what MLflow keeps under other names and values."""
    described = {"name": "policy/π", "step": 20, "time": CREATED + 2, "kind": "file", "metadata": {"score": 2.5}}
    bench.place("models/p/step_20/metadata.json", json.dumps(described))
    bench.place("models/p/step_20/inner/part.bin", b"p" * 100_000)
    bench.place("models/p/step_3/weights.bin", b"w")
    values = [1.0, math.inf, math.nan, -math.inf]
    bench.deliver(
        [
            Config(seq=1, time=CREATED, values={"lr": 3e-4, "env": {"id": "CartPole-v1", "norm": True}, "n": [1, 2]}),
            Config(seq=2, time=CREATED, values={"lr": 1e-4}),
            *(
                Metrics(seq=3 + n, time=CREATED + n, step=10 * n, values={"reward (mean)": value})
                for n, value in enumerate(values)
            ),
            Model(seq=8, time=CREATED + 1, step=3, name="p", path="models/p/step_3"),
            Model(seq=9, time=CREATED + 2, step=20, name="policy/π", path="models/p/step_20"),
        ],
        status="killed",
    )
    return open_store(bench.uri)


def test_a_run_is_read_as_it_was_logged(bench: Bench) -> None:
    store = deliver(bench)
    assert bench.experiment in [experiment.name for experiment in store.experiments()]
    (run,) = store.runs(bench.experiment)
    assert (run.id, run.name, run.status, run.created) == (bench.run_id, "my run", "killed", CREATED)
    assert run.config == {"lr": 1e-4, "env/id": "CartPole-v1", "env/norm": True, "n": [1, 2]}
    assert run.metrics == {"reward mean": -math.inf}
    points = store.history(run, "reward (mean)")
    assert points.step.tolist() == [0, 10, 20, 30]
    assert points.time.tolist() == [CREATED + n for n in range(4)]
    assert repr(points.value.tolist()) == "[1.0, inf, nan, -inf]"
    assert (run.url is not None) == bench.uri.startswith("http")


def test_checkpoints_are_read_and_brought_home(bench: Bench, tmp_path: Path) -> None:
    store = deliver(bench)
    (run,) = store.runs(bench.experiment)
    other, described = store.checkpoints(run)
    assert (other.name, other.step, other.time, other.path) == ("p", 3, None, "models/p/step_3")
    assert (described.name, described.step, described.time) == ("policy/π", 20, CREATED + 2)
    assert described.metrics == {"score": 2.5}
    told: list[tuple[int, int | None]] = []
    home = store.download(run, described, tmp_path / "home", lambda *it: told.append(it))
    assert (home / "inner/part.bin").read_bytes() == b"p" * 100_000
    assert sorted(path.name for path in home.rglob("*") if path.is_file()) == ["metadata.json", "part.bin"]
    assert told[-1][0] == told[-1][1] == 100_000 + (home / "metadata.json").stat().st_size


def test_a_run_whose_place_another_took_is_left_out(sqlite_bench: Bench) -> None:
    store = deliver(sqlite_bench)
    assert sqlite_bench.client is not None
    assert len(find_runs(sqlite_bench.experiment, status="killed", store=store)) == 1
    sqlite_bench.client.set_tag(sqlite_bench.run_id, "rl_logging.superseded_by", "other")
    with pytest.raises(NoRunError, match="1 killed"):
        find_runs(sqlite_bench.experiment, status="killed", store=store)
    (run,) = find_runs(sqlite_bench.experiment, status="any", store=store)
    assert run.superseded_by == "other"


def test_a_server_that_is_gone_is_told_in_its_words(server: MlflowServer) -> None:
    with pytest.raises(StoreError, match=r"http://127.0.0.1:9: .*refused"):
        open_store("http://127.0.0.1:9").experiments()


def test_which_locations_are_mlflows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.db").touch()
    (tmp_path / "files" / "0").mkdir(parents=True)
    (tmp_path / "files" / "0" / "meta.yaml").touch()
    expected = {
        "http://host:1": "http://host:1",
        "sqlite:///a.db": f"sqlite:///{tmp_path}/a.db",
        "a.db": f"sqlite:///{tmp_path}/a.db",
        "mlflow:a.db": f"sqlite:///{tmp_path}/a.db",
        "files": f"file://{tmp_path}/files",
        "mlflow:none": f"file://{tmp_path}/none",
        "none": None,
        "wandb:a/b": None,
    }
    assert {location: locate(location, tmp_path) for location in expected} == expected
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///b.db")
    assert locate("mlflow", tmp_path) == f"sqlite:///{tmp_path}/b.db"
