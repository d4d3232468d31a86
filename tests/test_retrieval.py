"""Bringing the best home, from MLflow and from run directories: out of a sweep in which every easy answer is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from rl_logging import ExperimentLogger
from rl_logging.cli import main
from rl_logging.downloads import RemoteFile, fetch
from rl_logging.journal import JournalReader
from rl_logging.records import Model, decode, decode_envelope, encode
from rl_logging.retrieval import (
    NoCheckpointError,
    NoExperimentError,
    NoMetricError,
    NoRunError,
    RankedRun,
    StoreError,
    best_checkpoint,
    find_runs,
    get_top_run,
    list_experiments,
    load_best,
    open_store,
)
from rl_logging.retrieval.best import _nearest_after
from rl_logging.stores import CheckpointInfo, RunInfo, numbers
from tests.support.mlflow_database import database

METRIC = "episode_reward_max"
TRIALS = {
    # Alphabetically first.
    "a-first": ("finished", {100: 1.0, 200: 2.0, 300: 3.0}),
    # Has the best value there is, at 200, and ends badly.
    "b-best": ("finished", {100: 1.0, 200: 9.0, 300: 2.0, 1000: float("nan")}),
    # Has the best last value.
    "c-last": ("finished", {100: 5.0, 200: 6.0, 300: 7.0}),
    "d-failed": ("failed", {100: 50.0, 200: 90.0, 300: 100.0}),
    "e-infinite": ("finished", {100: float("inf"), 200: 0.0}),
}
SAVED = (100, 250, 1000)
"""Of b-best; that at 250 is the first after its best value, and by name the last."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an older experiment and a sweep, in run directories and in MLflow."""
    folder = tmp_path_factory.mktemp("sweep")
    database(folder / "mlflow.db")
    train(folder, "old", "earlier", "finished", {100: 1000.0}, delivery="thread")
    with logger(folder, "sweep", "the sweep", {}, delivery="thread") as parent:
        assert parent.flush(60)
        parent_id = parent.status()["mlflow"].remote_id
        for name, (status, values) in TRIALS.items():
            train(folder, "sweep", name, status, values, delivery="thread", parent_run_id=parent_id)
    return folder


def logger(folder: Path, experiment: str, name: str, options: dict[str, object], delivery: str) -> ExperimentLogger:
    mlflow = {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}", "experiment": experiment, **options}
    return ExperimentLogger(
        {"mlflow": mlflow}, name=name, group="g", dir=folder / "rl_runs", delivery=delivery, quiet=True
    )


def train(
    folder: Path, experiment: str, name: str, status: str, values: dict[int, float], delivery: str, **options: object
) -> None:
    log = logger(folder, experiment, name, options, delivery)
    weights = folder / "weights.bin"
    saved = SAVED if name == "b-best" else (250,)
    for step in sorted({*values, *saved}):
        if step in values:
            log.log_metrics({METRIC: values[step], "other": 0.0}, step=step)
        if step in saved:
            weights.write_text(f"{name} at {step}")
            log.save_model(weights, "policy", step=step, metadata={"tried": 3, "note": "text"})
    log.finish(status)


@pytest.fixture(params=["mlflow", "local"])
def place(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The store's location; it is the one that is found without saying it, too."""
    if request.param == "local":
        monkeypatch.setenv("RL_LOGGING_DIR", str(folder / "rl_runs"))
        return str(folder / "rl_runs")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    return f"sqlite:///{folder / 'mlflow.db'}"


@pytest.mark.usefixtures("place")
def test_the_documents_five_lines_bring_the_right_one_home() -> None:
    experiments = list_experiments()
    experiment = experiments[-1].name
    local_path = "model_checkpoints"
    path = get_top_run(experiment, local_path, rank_metric="metrics.episode_reward_max")
    assert experiment == "sweep"
    assert path.is_relative_to(local_path)
    assert (path / "weights.bin").read_text() == "b-best at 250"


def test_a_checkpoint_knows_when_it_was_saved(place: str) -> None:
    found = best_checkpoint(METRIC, experiment="sweep", store=place)
    assert (found.run.name, found.value, found.step, found.checkpoint.step) == ("b-best", 9.0, 200, 250)
    assert found.checkpoint.metadata == {"tried": 3, "note": "text"}
    assert found.checkpoint.metrics["tried"] == 3
    assert found.checkpoint.metrics[METRIC] == 9.0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"by": "last"}, ("c-last", 7.0, 250)),
        ({"status": "any"}, ("d-failed", 100.0, 250)),
        ({"status": ("failed",)}, ("d-failed", 100.0, 250)),
        ({"mode": "min"}, ("e-infinite", 0.0, 250)),
    ],
)
def test_what_counts_can_be_said(place: str, options: dict[str, object], expected: tuple[object, ...]) -> None:
    found = best_checkpoint(METRIC, experiment="sweep", store=place, **options)  # type: ignore[arg-type]
    assert (found.run.name, found.value, found.checkpoint.step) == expected


def test_without_an_experiment_all_runs_compete(place: str) -> None:
    assert best_checkpoint(METRIC, store=place).run.name == "earlier"


def test_runs_are_found_with_what_they_are(place: str) -> None:
    store = open_store(place)
    runs = {run.name: run for run in find_runs("sweep", status=None, group="g", store=store)}
    assert list(runs) == ["the sweep", *TRIALS]
    assert {name: run.status for name, run in runs.items()} == {
        "the sweep": "finished",
        **{name: status for name, (status, _) in TRIALS.items()},
    }
    best = runs["b-best"]
    assert store.metric_names(best) == [METRIC, "other"]
    points = store.history(best, METRIC)
    assert points.step.tolist() == [100, 200, 300, 1000]
    assert points.value.tolist()[:3] == [1.0, 9.0, 2.0]
    assert (points.time[1:] >= points.time[:-1]).all()
    assert points.time[0] == pytest.approx(best.created, abs=60)
    assert store.history(best, "none").value.size == 0
    assert [(it.name, it.step) for it in store.checkpoints(best)] == [("policy", step) for step in SAVED]


def test_children_are_found_by_their_parent(folder: Path) -> None:
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    (parent,) = [run for run in find_runs("sweep", store=uri) if run.name == "the sweep"]
    assert [run.name for run in find_runs(parent=parent.id, status="any", store=uri)] == list(TRIALS)


def test_what_there_is_not_is_told(place: str) -> None:
    with pytest.raises(NoExperimentError, match=r"no experiment 'Sweeps' in .*: did you mean 'sweep'\?"):
        find_runs("Sweeps", store=place)
    with pytest.raises(NoRunError, match=r"1 failed; status='any' takes them all"):
        find_runs("sweep", status="killed", store=place)
    with pytest.raises(NoMetricError, match=r"'episode_reward_mean': did you mean 'episode_reward_max'\?.*other"):
        best_checkpoint("episode_reward_mean", experiment="sweep", store=place)
    with pytest.raises(NoCheckpointError, match="'polisy': did you mean 'policy'"):
        best_checkpoint(METRIC, experiment="sweep", model="polisy", store=place)
    with pytest.raises(ValueError, match="may be 'max' or 'min'"):
        best_checkpoint(METRIC, "most", store=place)  # type: ignore[arg-type]


def test_a_place_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="neither run directories"):
        open_store()
    with pytest.raises(StoreError, match="no store at 'nowhere'"):
        open_store("nowhere")
    with pytest.raises(StoreError, match="no database"):
        open_store("sqlite:///none.db")
    assert not any(path.suffix == ".db" for path in tmp_path.iterdir())


def test_a_broken_download_goes_on(place: str) -> None:
    found = best_checkpoint(METRIC, experiment="sweep", store=place)
    path = found.download("home")
    kept = (path / "metadata.json").stat()
    (path / "weights.bin").write_text("B-best at 250")  # as long, and another
    told: list[tuple[int, int | None]] = []
    found.store.download(found.run, found.checkpoint, path, lambda *it: told.append(it))
    assert (path / "weights.bin").read_text() == "b-best at 250"
    again = (path / "metadata.json").stat()
    assert (again.st_ino, again.st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)
    assert told[-1] == (kept.st_size + 13, kept.st_size + 13)
    assert sorted(file.name for file in path.iterdir()) == ["metadata.json", "weights.bin"]


def test_what_came_damaged_is_not_taken(tmp_path: Path) -> None:
    file = RemoteFile("inner/a.bin", 3, "0" * 64)

    def get(path: str, target: Path) -> None:
        target.write_bytes(b"abc")

    with pytest.raises(StoreError, match=r"inner/a.bin is not what was saved: its SHA-256"):
        fetch([file], get, tmp_path / "to")
    assert not [path for path in (tmp_path / "to").rglob("*") if path.is_file()]
    with pytest.raises(StoreError, match="leads out of"):
        fetch([RemoteFile("../a.bin")], get, tmp_path / "to")


def test_mlflow_tells_a_checkpoint_that_changed_in_the_store(folder: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    found = best_checkpoint(METRIC, experiment="old", store=uri)
    client = MlflowClient(uri)
    there = Path(client.get_run(found.run.id).info.artifact_uri.removeprefix("file://"), found.checkpoint.path)
    before = (there / "weights.bin").read_text()
    (there / "weights.bin").write_text("x" * len(before))
    try:
        with pytest.raises(StoreError, match=r"weights.bin is not what was saved"):
            found.download(tmp_path)
        (there / "weights.bin").unlink()
        with pytest.raises(StoreError, match=r"lacks weights.bin"):
            found.download(tmp_path)
    finally:
        (there / "weights.bin").write_text(before)


def test_a_run_of_another_loggers_is_ranked_and_its_files_are_told(tmp_path: Path) -> None:
    client = MlflowClient(database(tmp_path / "other.db"))
    experiment = client.create_experiment("theirs", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment, run_name="theirs").info.run_id
    client.log_metric(run, METRIC, 3.0, step=1)
    client.log_param(run, "lr", "0.1")
    (tmp_path / "checkpoint_000010").mkdir()
    (tmp_path / "checkpoint_000010" / "policy.pkl").write_text("x")
    client.log_artifacts(run, str(tmp_path / "checkpoint_000010"), "checkpoint_000010")
    client.set_terminated(run)
    (found,) = find_runs("theirs", store=str(tmp_path / "other.db"))
    assert (found.config, dict(found.metrics), found.status) == ({"lr": 0.1}, {METRIC: 3.0}, "finished")
    with pytest.raises(NoCheckpointError, match=r"'theirs' .*it has checkpoint_000010, of which nothing tells"):
        best_checkpoint(METRIC, store=str(tmp_path / "other.db"))


def test_after_the_last_save_the_last_is_taken(tmp_path: Path) -> None:
    with ExperimentLogger(name="one", dir=tmp_path / "runs", delivery="offline", quiet=True) as log:
        (tmp_path / "w.bin").write_text("1")
        for step in (1, 2):
            log.save_model(tmp_path / "w.bin", step=step)
        log.log_metrics({METRIC: 1.0}, step=3)
    found = best_checkpoint(METRIC, store=tmp_path / "runs")
    assert (found.step, found.checkpoint.step) == (3, 2)
    assert METRIC not in found.checkpoint.metrics


def test_without_steps_the_times_decide() -> None:
    run = RunInfo(id="1", name="1", experiment="e", status="finished", created=0.0)
    best = RankedRun(run=run, value=1.0, step=7, time=20.0)
    there = [CheckpointInfo(name="m", step=None, time=time, path=str(time)) for time in (10.0, 25.0, 40.0)]
    assert _nearest_after(there, best).time == 25.0
    assert _nearest_after(there[:1], best).time == 10.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [((500, 15.0), "old-500"), ((500, 35.0), "new-500"), ((400, 34.5), "new-500"), ((550, 41.0), "new-600")],
)
def test_a_run_that_took_another_way(value: tuple[int, float], expected: str) -> None:
    """Its steps come again, as under PBT: the checkpoint is of the way that had the value."""
    run = RunInfo(id="1", name="1", experiment="e", status="finished", created=0.0)
    best = RankedRun(run=run, value=1.0, step=value[0], time=value[1])
    saved = {"old-500": 14.9, "old-600": 20.0, "new-500": 34.9, "new-600": 42.0}
    there = [
        CheckpointInfo(name="m", step=int(path[4:]), time=time, path=path, metadata={}) for path, time in saved.items()
    ]
    assert _nearest_after(there, best).path == expected


def test_metrics_that_were_given_with_a_checkpoint_are_its_own() -> None:
    given = {"metrics": {"reward": 2.5, "note": "text"}, "tried": 3, "good": True}
    assert numbers(given) == {"reward": 2.5, "tried": 3.0}


def test_a_file_is_given_as_its_path(place: str) -> None:
    path = load_best(METRIC, experiment="sweep", store=place)
    assert path.read_text() == "b-best at 250"


def test_a_stable_baselines3_model_comes_back_with_its_normalizer(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    env = VecNormalize(make_vec_env("CartPole-v1"))
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, n_epochs=1, device="cpu")
    model.learn(8)
    with ExperimentLogger(name="sb3", dir=tmp_path / "runs", delivery="offline", quiet=True) as log:
        log.log_metrics({"episode_reward_mean": 1.0}, step=8)
        log.save_model(model, step=8)
    loaded = load_best(store=tmp_path / "runs", device="cpu")
    assert isinstance(loaded, PPO)
    assert loaded.num_timesteps == 8
    assert loaded.get_vec_normalize_env().obs_rms.mean.tolist() == env.obs_rms.mean.tolist()


def test_a_record_says_as_what_it_is_registered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "w.bin").write_text("1")
    with ExperimentLogger(name="one", dir=tmp_path / "runs", delivery="offline", quiet=True) as log:
        log.save_model(tmp_path / "w.bin", step=1, register="cartpole", aliases="best")
        log.save_model(tmp_path / "w.bin", step=2)
        log.save_model(tmp_path / "w.bin", step=3, register="cartpole", upload=False)
    envelopes = JournalReader(log.run_dir / "journal").read(100, final=True)
    models = [decode(envelope) for envelope in envelopes if envelope.kind == Model.kind]
    assert [(it.step, it.register, it.aliases) for it in models if isinstance(it, Model)] == [
        (1, "cartpole", ("best",)),
        (2, None, ()),
    ]
    assert "save_model 'model': no store registers what is not uploaded" in caplog.text


def test_a_record_of_before_there_was_a_registry_is_read() -> None:
    body = {"name": "m", "path": "models/m/step_1", "metadata": {}, "aliases": []}
    model = decode(decode_envelope(encode(1, 1.0, 1, Model.kind, body)))
    assert isinstance(model, Model)
    assert model.register is None


# -- the commands -----------------------------------------------------------------------------------------------


def cli(*arguments: object, wide: bool = True) -> Result:
    return CliRunner(env={"COLUMNS": "300" if wide else "80"}).invoke(main, [str(it) for it in arguments])


def test_runs_are_listed(place: str) -> None:
    done = cli("runs", "--store", place, "--experiment", "sweep", "--json")
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["run"], row["status"]) for row in rows][1:] == [(name, it[0]) for name, it in TRIALS.items()]
    assert rows[2]["metrics"]["other"] == 0.0
    table = cli("runs", "--store", place)
    assert table.exit_code == 0
    assert sum("│ sweep " in line for line in table.stdout.splitlines()) == len(TRIALS) + 1


def test_the_top_runs_are_shown(place: str) -> None:
    def top(*options: object) -> list[tuple[str, float, int]]:
        done = cli("top", "--experiment", "sweep", "--metric", METRIC, "--json", *options)
        assert done.exit_code == 0, done.output
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return [(row["run"], row["value"], row["step"]) for row in rows]

    assert top("-n", 2) == [("b-best", 9.0, 200), ("c-last", 7.0, 300)]
    assert top("-n", 1, "--by", "last", "--status", "any") == [("d-failed", 100.0, 300)]
    assert top("--min")[0] == ("e-infinite", 0.0, 200)
    table = cli("top", "--metric", METRIC, "--store", place, "--status", "any", "-n", 2)
    assert [line.split("│")[1].strip() for line in table.stdout.splitlines() if line.startswith("│")] == ["1000", "100"]


def test_several_stores_are_listed_together(folder: Path) -> None:
    stores = ("--store", folder / "rl_runs", "--store", folder / "mlflow.db")
    done = cli("top", "--metric", METRIC, "-n", 4, *stores)
    lines = [line for line in done.stdout.splitlines() if line.startswith("│")]
    assert [line.split("│")[3].strip() for line in lines] == ["earlier"] * 2 + ["b-best"] * 2
    assert all("mlflow.db" in line or "rl_runs" in line for line in lines)


def test_a_command_says_what_is_wrong(place: str) -> None:
    done = cli("top", "--metric", "reward", "--store", place)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "has logged 'reward': did you mean" in done.stderr
    assert cli("runs", "--store", place, "--store", os.devnull).exit_code == 0
