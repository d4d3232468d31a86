"""Going on with a run: the same directory, the same remote runs, each record once."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle
from rl_logging.settings.sections import SettingsError
from tests.support import wandb_file
from tests.support.mlflow_database import database
from tests.support.processes import run_script
from tests.test_cli import cli

TRAIN = """
import os, signal, sys
from rl_logging import ExperimentLogger

class Model:
    def save(self, path):
        open(path, "w").write("weights")

config = {
    "lr": float(sys.argv[1]),
    "mlflow": {"tracking_uri": "sqlite:///mlflow.db"},
    "wandb": {"mode": "offline", "dir": "."},
}
with ExperimentLogger(config, id="job", resume="auto", quiet=True) as logger:
    found = logger.latest_checkpoint()
    print(logger.resumed, logger.step, found.step if found else None)
    for value in range(5):
        logger.log_metrics({"x": float(value)})
    logger.save_model(Model(), name="policy")
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def offline(tmp_path: Path, **keywords: Any) -> ExperimentLogger:
    return ExperimentLogger(dir=tmp_path / "runs", delivery="offline", sinks=[], quiet=True, **keywords)


def test_a_killed_program_goes_on_twice_in_the_same_runs(tmp_path: Path, mlflow_uri: str) -> None:
    said = []
    for lr, end in ((0.1, "killed"), (0.2, "killed"), (0.3, "finished")):
        done = run_script(TRAIN, tmp_path, [lr, end])
        assert done.returncode == (-signal.SIGKILL if end == "killed" else 0), done.stderr
        said.append(done.stdout.strip())
    assert said[1:] == ["True 4 4", "True 9 9"]
    (run_dir,) = (tmp_path / "rl_runs").glob("*-job")
    assert cli("sync", run_dir).exit_code == 0, "whoever was killed first may still have been delivering at the end"
    expected = [(step, float(step % 5)) for step in range(15)]

    client = MlflowClient(mlflow_uri)
    (run,) = client.search_runs(["0"])
    assert [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "x")] == expected
    assert run.info.status == "FINISHED"
    assert run.data.params["lr"] == "0.1"
    assert run.data.tags["config/lr"] == "0.3", "MLflow's params do not change: what they became is a tag"
    assert len(client.list_artifacts(run.info.run_id, "models/policy")) == 3

    fragments = wandb_file.offline_directories(tmp_path)
    assert len({fragment.name.rsplit("-", 1)[1] for fragment in fragments}) == 1
    stored = wandb_file.read(fragments)
    assert stored.series("x") == expected
    assert stored.config["lr"] == 0.3
    assert len(stored.artifacts) == 3
    assert stored.exit_codes[-1] == 0


def test_a_run_goes_on_in_the_same_process(tmp_path: Path, mlflow_uri: str) -> None:
    config = {"mlflow": {"tracking_uri": mlflow_uri}}
    keywords: dict[str, Any] = {"dir": tmp_path / "runs", "quiet": True, "id": "again", "resume": "auto"}
    for part in range(3):
        with ExperimentLogger(config, **keywords) as logger:
            assert logger.resumed is (part > 0)
            logger.log_metrics({"x": float(part)}, step=part)
        assert logger.status()["mlflow"].pending == 0
    client = MlflowClient(mlflow_uri)
    (run,) = client.search_runs(["0"])
    assert [point.value for point in client.get_metric_history(run.info.run_id, "x")] == [0.0, 1.0, 2.0]
    assert run.info.status == "FINISHED"


def test_an_end_that_is_not_delivered_yet_ends_nothing_once_the_run_goes_on(tmp_path: Path, mlflow_uri: str) -> None:
    config = {"mlflow": {"tracking_uri": mlflow_uri}}
    keywords: dict[str, Any] = {"dir": tmp_path / "runs", "quiet": True, "id": "late", "resume": "auto"}
    with ExperimentLogger(config, delivery="offline", **keywords) as first:
        first.log_metrics({"x": 0.0}, step=0)
    with ExperimentLogger(config, delivery="thread", **keywords) as second:
        assert second.flush(60)
        assert second.status()["mlflow"].phase == "delivering"
        second.log_metrics({"x": 1.0}, step=1)
        second.finish("failed")
    client = MlflowClient(mlflow_uri)
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FAILED"
    assert [point.value for point in client.get_metric_history(run.info.run_id, "x")] == [0.0, 1.0]


def test_which_run_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("one", "two", "one")):
        with offline(tmp_path, name=name, id=f"run{number}") as logger:
            logger.log_metrics({"x": 1.0}, step=number)
    runs = tmp_path / "runs"

    def gone_on_with(**keywords: Any) -> str:
        with offline(tmp_path, **keywords) as logger:
            assert logger.resumed
            return Bundle(logger.run_dir).manifest.id

    assert gone_on_with(resume=True, id="run1") == "run1"
    assert gone_on_with(resume=True, name="one") == "run2"
    assert gone_on_with(resume=True) == "run2"
    assert gone_on_with(resume="run0") == "run0"
    assert gone_on_with(resume=runs / "two-run1") == "run1"
    monkeypatch.setenv("RL_LOGGING_RESUME", "auto")
    assert gone_on_with(id="run1") == "run1"
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with offline(tmp_path) as logger:
        assert not logger.resumed
    assert gone_on_with() == "slurm-77"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with offline(tmp_path) as logger:
        assert Bundle(logger.run_dir).manifest.id == "slurm-70-3"


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"resume": True}, "there is no run in"),
        ({"resume": True, "name": "x"}, "there is no run called 'x' in"),
        ({"resume": True, "id": "x"}, "there is no run of the id 'x' in .*'auto' begins one"),
        ({"resume": "x"}, "'x' is neither a run directory nor the id of a run"),
        ({"resume": "auto"}, "auto finds a run by its id"),
        ({"resume": 3}, "may be true, false, auto, a run directory or a run's id"),
    ],
)
def test_what_cannot_be_gone_on_with(tmp_path: Path, keywords: dict[str, Any], error: str) -> None:
    with pytest.raises(SettingsError, match=error):
        offline(tmp_path, **keywords)


def test_a_run_that_is_being_written_is_not_gone_on_with(tmp_path: Path) -> None:
    with offline(tmp_path, id="one") as logger:
        with pytest.raises(SettingsError, match="is being written by process"):
            offline(tmp_path, id="one", resume="auto")
        logger.log_metrics({"x": 1.0}, step=1)
    assert logger.accepted >= 2


def test_an_id_that_is_taken_names_the_way_to_go_on(tmp_path: Path) -> None:
    with offline(tmp_path, id="one"):
        pass
    with pytest.raises(SettingsError, match="resume: auto goes on with it"):
        offline(tmp_path, id="one")
    (tmp_path / "runs" / "half-made" / "journal").mkdir(parents=True)
    with pytest.raises(SettingsError, match="just being made, or damaged"):
        offline(tmp_path, id="made", resume="auto")


def test_an_id_that_another_one_ends_with_is_free(tmp_path: Path) -> None:
    with offline(tmp_path, id="lr-1"):
        pass
    with offline(tmp_path, id="1", resume="auto") as logger:
        assert Bundle(logger.run_dir).manifest.id == "1"


class Model:
    def save(self, path: str) -> None:
        Path(path).write_text("weights")


def test_a_run_goes_on_while_its_first_part_is_still_being_delivered(tmp_path: Path, mlflow_uri: str) -> None:
    config = {"mlflow": {"tracking_uri": mlflow_uri}}
    keywords: dict[str, Any] = {"dir": tmp_path / "runs", "quiet": True, "id": "quick", "resume": "auto"}
    for part in range(3):
        logger = ExperimentLogger(config, **keywords)
        logger.log_metrics({"x": float(part)}, step=part)
        if part < 2:
            logger.finish(timeout=0)
    assert logger.flush(60)
    logger.finish()
    client = MlflowClient(mlflow_uri)
    (run,) = client.search_runs(["0"])
    assert [point.value for point in client.get_metric_history(run.info.run_id, "x")] == [0.0, 1.0, 2.0]
    assert run.info.status == "FINISHED"


def test_another_destination_of_the_same_sink_is_one_more(tmp_path: Path) -> None:
    uris = [database(tmp_path / f"{name}.db") for name in ("first", "second")]
    keywords: dict[str, Any] = {"dir": tmp_path / "runs", "quiet": True, "id": "job", "resume": "auto"}
    with ExperimentLogger({"mlflow": {"tracking_uri": uris[0]}}, delivery="offline", **keywords) as logger:
        saved = logger.save_model(Model(), name="policy")
        assert saved is not None
    with ExperimentLogger({"mlflow": {"tracking_uri": uris[1]}}, delivery="offline", **keywords) as logger:
        assert list(logger.status()) == ["mlflow", f"mlflow ({uris[0]} experiment Default)"]
        assert logger.status()["mlflow"].destination.startswith(uris[1])
        assert cli("sync", "--to", "mlflow", "--set", f"mlflow.tracking_uri={uris[1]}", logger.run_dir).exit_code == 0
        assert not logger.discard_model(saved), "the first store has not had it"
        assert saved.path.is_dir()
    assert cli("sync", logger.run_dir).exit_code == 0


def test_a_destination_added_beside_a_live_run_disturbs_nothing(tmp_path: Path) -> None:
    with ExperimentLogger(
        {"mlflow": {"tracking_uri": database(tmp_path / "own.db")}}, dir=tmp_path / "runs", quiet=True
    ) as logger:
        logger.log_metrics({"x": 1.0}, step=1)
        other = ("--to", "mlflow", "--tracking-uri", database(tmp_path / "other.db"))
        assert cli("sync", *other, logger.run_dir).exit_code in (0, 1)
        assert logger.flush(60)
        assert list(logger.status()) == ["mlflow"]
        assert logger.run_id("mlflow") is not None
    assert cli("sync", logger.run_dir).exit_code == 0


def test_a_checkpoint_that_is_kept_here_alone_is_found(tmp_path: Path) -> None:
    with offline(tmp_path, id="one") as logger:
        logger.save_model(Model(), name="best", step=10)
        logger.save_model(Model(), name="checkpoint", step=50, upload=False)
    with offline(tmp_path, id="one", resume=True) as logger:
        found, best = logger.latest_checkpoint(), logger.latest_checkpoint("best")
        assert logger.latest_checkpoint("other") is None
    assert found is not None
    assert best is not None
    assert (found.name, found.step, best.step) == ("checkpoint", 50, 10)


def test_a_checkpoint_of_ones_own_says_where_to_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with offline(tmp_path, name="mine") as logger:
        logger.log_metrics({"x": 1.0}, step=40)
        state = json.loads(json.dumps(logger.state_dict()))
        logger.log_metrics({"x": 1.0}, step=60)
    assert state == {
        "id": logger.run_dir.name.rpartition("-")[2],
        "name": "mine",
        "run_dir": str(logger.run_dir),
        "step": 40,
        "accepted": state["accepted"],
    }
    caplog.clear()
    with offline(tmp_path, resume=state["id"], resume_step=state["step"]) as again:
        again.load_state_dict(state)
        assert all("no sink" in message for message in caplog.messages)
        assert (again.resumed, again.step) == (True, 40)
        again.log_metrics({"x": 2.0})
        assert again.step == 41
    caplog.clear()
    with offline(tmp_path) as other:
        other.load_state_dict(state)
        assert other.step == 40
        other.load_state_dict({"no": "state"})
        other.load_state_dict({"step": "far"})
        assert other.step == 40
    told = [message for message in caplog.messages if "no sink" not in message]
    assert f"the state is of the run '{state['id']}'" in told[0]
    assert "what state_dict() returned" in told[1]
    assert "step: got 'far'" in told[2]


def test_a_logger_that_keeps_nothing_has_a_state_too(tmp_path: Path) -> None:
    with ExperimentLogger(delivery="disabled", dir=tmp_path / "runs") as logger:
        logger.log_metrics({"x": 1.0}, step=3)
        state = logger.state_dict()
        logger.load_state_dict(state)
    assert state == {"id": None, "name": None, "run_dir": None, "step": 3, "accepted": 0}
