"""A project read back through `rl_logging.retrieval`, and models linked to the registry, on the stand-in server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from rl_logging.records import Config, Model
from rl_logging.retrieval import StoreError, best_checkpoint, open_store
from tests.support.wandb_reading_server import ReadableWandbServer
from tests.support.wandb_server import API_KEY
from tests.support.wandb_sink import RUN_ID, RecordingLedger, deliver, make_context, make_sink, metrics

COLLECTION = "org-entity/wandb-registry-model/cartpole-ppo"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReadableWandbServer]:
    with ReadableWandbServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", API_KEY)
        yield server
        wandb.teardown()


def model(run_dir: Path, seq: int, step: int, register: str | None = None, *aliases: str) -> Model:
    path = f"models/{seq}"
    (run_dir / path).mkdir(parents=True, exist_ok=True)
    (run_dir / path / "model.pt").write_bytes(b"weights at %d" % step)
    about = {"score": step / 10}
    return Model(
        seq=seq, time=seq, step=step, name="my policy", path=path, metadata=about, aliases=aliases, register=register
    )


def options(tmp_path: Path, mode: str = "online") -> dict[str, object]:
    return {"mode": mode, "dir": str(tmp_path / "logs"), "project": "a-project"}


def test_a_project_is_read_and_its_best_brought_home(tmp_path: Path, server: ReadableWandbServer) -> None:
    run_dir = tmp_path / "run"
    records = [
        Config(seq=1, time=1.0, values={"lr": 0.1, "env": {"id": "CartPole-v1"}}),
        metrics(2, 100, reward=1.0),
        model(run_dir, 3, 100),
        metrics(4, 200, reward=9.0),
        metrics(5, 250, other=3.0),
        model(run_dir, 6, 250),
        metrics(7, 300, reward=math.nan),
        metrics(8, 400, reward=2.0),
        model(run_dir, 9, 1000),
    ]
    deliver(make_sink(make_context(run_dir), options(tmp_path)), records)
    store = open_store("wandb:tester/a-project")
    assert [experiment.name for experiment in store.experiments()] == ["a-project"]
    (run,) = store.runs("a-project")
    assert (run.id, run.name, run.status, run.group) == (RUN_ID, "a name", "finished", "a group")
    assert run.config == {"lr": 0.1, "env": {"id": "CartPole-v1"}}
    assert run.metrics == {"reward": 2.0, "other": 3.0}
    points = store.history(run, "reward")
    assert points.step.tolist() == [100, 200, 300, 400]
    assert repr(points.value.tolist()) == "[1.0, 9.0, nan, 2.0]"
    assert points.time.tolist() == [1_700_000_000.0 + seq for seq in (2, 4, 7, 8)]

    found = best_checkpoint("reward", experiment="a-project", store=store)
    assert (found.value, found.step, found.checkpoint.step, found.checkpoint.name) == (9.0, 200, 250, "my policy")
    assert found.checkpoint.metrics == {"reward": 9.0, "score": 25.0}
    home = found.download(tmp_path / "home")
    assert (home / "model.pt").read_bytes() == b"weights at 250"
    (home / "model.pt").write_bytes(b"Weights at 250")
    assert (found.download(tmp_path / "home") / "model.pt").read_bytes() == b"weights at 250"
    (artifact,) = [it for it in server.artifacts.values() if it.files["model.pt"] == b"weights at 250"]
    artifact.files["model.pt"] = b"another at 250"
    with pytest.raises(StoreError, match=r"wandb:tester/a-project: "):
        found.download(tmp_path / "elsewhere")


def test_a_file_of_anothers_in_the_place_of_our_note_says_nothing(
    tmp_path: Path, server: ReadableWandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wandb.init(project="a-project", dir=tmp_path) as run:
        for name, text in (("theirs", "[1]"), ("broken", "{"), ("large", '{"name": "renamed"}')):
            artifact = wandb.Artifact(f"{name}-{run.id}", "model")
            with artifact.new_file("record.json") as file:
                file.write(text)
            run.log_artifact(artifact).wait()
    monkeypatch.setattr("rl_logging_wandb.reading.MOST_BYTES", 10)
    store = open_store("wandb:tester/a-project")
    (found,) = store.runs("a-project")
    names = {checkpoint.name.removesuffix(f"-{run.id}") for checkpoint in store.checkpoints(found)}
    assert names == {"theirs", "broken", "large"}


def test_models_are_linked_once_also_after_a_repeat(tmp_path: Path, server: ReadableWandbServer) -> None:
    ledger = RecordingLedger()
    run_dir = tmp_path / "run"
    records = [
        model(run_dir, 1, 100, "cartpole-ppo", "best", "first"),
        model(run_dir, 2, 200, "cartpole-ppo", "best"),
        model(run_dir, 3, 300),
    ]
    for _ in range(2):
        deliver(make_sink(make_context(run_dir, ledger), options(tmp_path)), records)
    assert list(server.links) == [COLLECTION]
    assert [server._by_id(it).files["model.pt"] for it in server.links[COLLECTION]] == [
        b"weights at 100",
        b"weights at 200",
    ]
    assert server.aliases[COLLECTION] == {"best": 1, "first": 0}
    assert ledger.warnings == []


def test_a_link_that_is_refused_is_told_and_the_model_is_stored(tmp_path: Path, server: ReadableWandbServer) -> None:
    ledger = RecordingLedger()
    server.faults["LinkArtifact"] = 403
    run_dir = tmp_path / "run"
    deliver(make_sink(make_context(run_dir, ledger), options(tmp_path)), [model(run_dir, 1, 100, "team/ppo")])
    assert len(server.artifact(f"my-policy-{RUN_ID}")) == 1
    assert ledger.names["registered model team/ppo"] == "team-ppo"
    (warning,) = ledger.warnings
    assert warning.startswith("'my policy' is stored, but not linked to wandb-registry-model/team-ppo: ")


def test_offline_it_is_told_that_nothing_is_linked(tmp_path: Path) -> None:
    ledger = RecordingLedger()
    run_dir = tmp_path / "run"
    deliver(make_sink(make_context(run_dir, ledger), options(tmp_path, "offline")), [model(run_dir, 1, 1, "ppo")])
    (warning,) = ledger.warnings
    assert "not registered as 'ppo': W&B links models online only" in warning


def test_a_server_that_refuses_is_told(server: ReadableWandbServer) -> None:
    store = open_store("wandb:tester")
    server.faults["GetProjects"] = 403
    with pytest.raises(StoreError, match=r"wandb:tester: .*403"):
        store.experiments()
