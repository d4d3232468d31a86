"""Going back to a checkpoint: steps that come again are not doubled, and nothing is thrown away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from rl_logging import ExperimentLogger
from rl_logging.bundle import Bundle, superseded
from rl_logging.bundle.destination import DestinationFile, DestinationState, destinations
from rl_logging.bundle.resuming import last_step
from rl_logging.bundle.rewinds import REWINDS, Rewind, add_rewind, rewinds
from rl_logging.delivery import BundleDelivery
from rl_logging.journal import JournalReader, JournalWriter
from rl_logging.testing.memory import MemoryStore
from tests.support import wandb_file
from tests.support.bundles import make_bundle, make_entry
from tests.support.processes import run_script
from tests.test_cli import cli

TRAIN = """
import os, signal, sys
from rl_logging import ExperimentLogger

class Model:
    def save(self, path):
        open(path, "w").write("weights")

config = {
    "mlflow": {"tracking_uri": "sqlite:///mlflow.db"},
    "wandb": {"mode": "offline", "dir": "."},
}
part, steps, end = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with ExperimentLogger(config, id="job", resume="auto", resume_step="checkpoint", quiet=True) as logger:
    found = logger.latest_checkpoint()
    start = 0 if found is None else found.step + 1
    print(logger.resumed, logger.step, start)
    for step in range(start, start + steps):
        logger.log_metrics({"x": part + step / 100}, step=step)
        if step % 4 == 3:
            logger.save_model(Model(), name="policy", step=step)
    if end == "killed":
        logger.flush(60)
        os.kill(os.getpid(), signal.SIGKILL)
"""

FIRST = [(step, step / 100) for step in range(4)]


def offline(tmp_path: Path, **keywords: Any) -> ExperimentLogger:
    return ExperimentLogger(dir=tmp_path / "runs", delivery="offline", sinks=[], quiet=True, **keywords)


class Model:
    def save(self, path: str) -> None:
        Path(path).write_text("weights")


def memory_bundle(tmp_path: Path, steps: Sequence[int]) -> tuple[Bundle, MemoryStore]:
    entry = make_entry("memory", "rl_logging.testing.memory:make", store=tmp_path.name)
    bundle = make_bundle(tmp_path, entry)
    log(bundle, steps)
    return bundle, MemoryStore.named(tmp_path.name)


def log(bundle: Bundle, steps: Sequence[int]) -> int:
    writer = JournalWriter(bundle.journal, bundle.manifest.id)
    for step in steps:
        writer.append("metrics", step, {"x": float(writer.seq + 1)})
    writer.close()
    return writer.seq


def deliver(bundle: Bundle) -> None:
    delivery = BundleDelivery(bundle, live=False, tell=lambda *_: None, warn=lambda *_: None)
    delivery.start()
    assert delivery.join(60)


def steps_of(store: MemoryStore, run_id: str) -> list[int | None]:
    return [record.step for record in store.runs[run_id].records.values()]


def test_a_killed_program_that_goes_back_to_its_checkpoint_is_not_there_twice(tmp_path: Path, mlflow_uri: str) -> None:
    said = []
    for part, (steps, end) in enumerate(((6, "killed"), (3, "finished"))):
        done = run_script(TRAIN, tmp_path, [part, steps, end], timeout_s=300)
        assert done.returncode == (-signal.SIGKILL if end == "killed" else 0), done.stderr
        said.append(done.stdout.strip())
    assert said == ["False 0 0", "True 3 4"]
    (run_dir,) = (tmp_path / "rl_runs").glob("*-job")
    assert cli("sync", run_dir).exit_code == 0
    expected = FIRST + [(step, 1 + step / 100) for step in (4, 5, 6)]

    client = MlflowClient(mlflow_uri)
    old, new = client.search_runs(["0"], order_by=["attributes.end_time ASC"])
    assert [(point.step, point.value) for point in client.get_metric_history(new.info.run_id, "x")] == expected
    assert [point.step for point in client.get_metric_history(old.info.run_id, "x")] == [0, 1, 2, 3, 4, 5]
    assert (old.info.status, new.info.status) == ("KILLED", "FINISHED")
    assert old.data.tags["rl_logging.superseded_by"] == new.info.run_id
    assert new.data.tags["rl_logging.resumed_from"] == old.info.run_id
    assert new.info.run_name == f"{old.info.run_name}-2"
    assert len(client.list_artifacts(new.info.run_id, "models/policy")) == 1

    first, second = (wandb_file.read(list(tmp_path.glob(f"wandb/offline-run-*-{run}"))) for run in ("job", "job--2"))
    assert second.series("x") == expected
    assert [step for step, _ in first.series("x")] == [0, 1, 2, 3, 4, 5]
    assert second.config["rl_logging.resumed_from"] == "job"
    assert (first.exit_codes, second.exit_codes) == ([255], [0])

    (entry, _) = destinations(Bundle(run_dir))
    state = DestinationFile(Bundle(run_dir), entry).load()
    assert (state.superseded, state.rejected, state.remote_id) == (2, 0, new.info.run_id)


def test_what_no_store_has_yet_needs_no_second_run(tmp_path: Path) -> None:
    bundle, store = memory_bundle(tmp_path, [1, 2, 3])
    add_rewind(bundle, Rewind(before_seq=3, step=1, time=0.0))
    log(bundle, [2, 3])
    deliver(bundle)
    assert list(store.runs) == [bundle.manifest.id]
    assert steps_of(store, bundle.manifest.id) == [1, 2, 3]
    assert [value for _, _, value in store.runs[bundle.manifest.id].points] == [1.0, 4.0, 5.0]


def test_a_run_goes_back_twice(tmp_path: Path) -> None:
    bundle, store = memory_bundle(tmp_path, [1, 2, 3])
    deliver(bundle)
    add_rewind(bundle, Rewind(before_seq=log(bundle, [4]), step=2, time=0.0))
    log(bundle, [3, 4, 5])
    deliver(bundle)
    add_rewind(bundle, Rewind(before_seq=7, step=4, time=0.0))
    log(bundle, [5])
    assert last_step(bundle) == 5
    deliver(bundle)
    deliver(bundle)
    run_id = bundle.manifest.id
    assert {key: steps_of(store, key) for key in store.runs} == {
        run_id: [1, 2, 3],  # the rest was never its own
        f"{run_id}--2": [1, 2, 3, 4, 5],
        f"{run_id}--3": [1, 2, 3, 4, 5],
    }
    assert [value for _, _, value in store.runs[f"{run_id}--3"].points] == [1.0, 2.0, 5.0, 6.0, 8.0]
    supersedes = store.runs[f"{run_id}--3"].context.supersedes
    assert supersedes is not None
    assert supersedes["id"] == f"{run_id}--2"
    assert all(run.status == "killed" for run in store.runs.values())


def test_a_delivery_that_is_at_it_ends_the_old_run_where_it_ends_and_begins_the_new(tmp_path: Path) -> None:
    bundle, store = memory_bundle(tmp_path, [1, 2, 3])
    there = threading.Event()

    def tell(_: str, state: DestinationState) -> None:
        if state.confirmed == 3:
            there.set()

    delivery = BundleDelivery(bundle, live=True, tell=tell, warn=lambda *_: None)
    delivery.start()
    assert there.wait(60)
    add_rewind(bundle, Rewind(before_seq=3, step=2, time=0.0))
    writer = JournalWriter(bundle.journal, bundle.manifest.id)
    writer.append("metrics", 3, {"x": 4.0})
    writer.append("end", None, {"status": "finished"})
    delivery.wake()
    assert delivery.join(60)
    old, new = store.runs.values()
    assert [(step, value) for _, step, value in old.points] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert [(step, value) for _, step, value in new.points] == [(1, 1.0), (2, 2.0), (3, 4.0)]
    assert (old.status, new.status) == ("killed", "finished")


@pytest.mark.parametrize("cut", ["aside", "rejected"])
def test_a_kill_while_a_branch_begins_loses_neither_side(
    tmp_path: Path, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, store = memory_bundle(tmp_path, [1, 2, 3])
    deliver(bundle)
    add_rewind(bundle, Rewind(before_seq=3, step=1, time=0.0))
    log(bundle, [2])
    (entry,) = destinations(bundle)
    file = DestinationFile(bundle, entry)
    file.rejected_path.write_text("")

    class KilledError(Exception):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(DestinationFile, "save", killed)
        if cut == "aside":
            patch.setattr(Path, "replace", killed)
        with pytest.raises(KilledError):
            file.begin_branch()
    assert file.load_any().remote_id == bundle.manifest.id
    deliver(bundle)
    assert [state.remote_id for state in file.earlier()] == [bundle.manifest.id]
    assert steps_of(store, f"{bundle.manifest.id}--2") == [1, 2]
    assert not file.rejected_path.exists()


def test_a_lost_state_does_not_lead_into_the_run_that_is_superseded(tmp_path: Path) -> None:
    bundle, store = memory_bundle(tmp_path, [1, 2, 3])
    deliver(bundle)
    add_rewind(bundle, Rewind(before_seq=3, step=1, time=0.0))
    log(bundle, [2])
    deliver(bundle)
    (entry,) = destinations(bundle)
    DestinationFile(bundle, entry).path.write_text("{")
    log(bundle, [3])
    deliver(bundle)
    run_id = bundle.manifest.id
    assert {key: steps_of(store, key) for key in store.runs} == {run_id: [1, 2, 3], f"{run_id}--2": [1, 2, 3]}


@pytest.mark.parametrize("earlier", [False, True])
def test_a_state_lost_before_its_branch_began_does_not_lead_there_either(tmp_path: Path, earlier: bool) -> None:
    bundle, store = memory_bundle(tmp_path, [1, 2, 3])
    deliver(bundle)
    (entry,) = destinations(bundle)
    file = DestinationFile(bundle, entry)
    if earlier:  # what an earlier branch had is damaged too
        file.save_earlier(file.load())
        next(bundle.sinks.glob("superseded/*.json")).write_text("{")
        file.path.unlink()
    else:
        file.path.write_text("{")
        assert file.load().remote is None, "whoever looks first puts it aside"
    add_rewind(bundle, Rewind(before_seq=3, step=1, time=0.0))
    log(bundle, [2])
    deliver(bundle)
    add_rewind(bundle, Rewind(before_seq=4, step=1, time=0.0))
    log(bundle, [2, 3])
    deliver(bundle)
    run_id = bundle.manifest.id
    assert {key: steps_of(store, key) for key in store.runs} == {
        run_id: [1, 2, 3],
        f"{run_id}--2": [1, 2],
        f"{run_id}--3": [1, 2, 3],
    }
    told = [store.runs[f"{run_id}--{number}"].context.supersedes for number in (2, 3)]
    assert [None if it is None else it.get("id") for it in told] == [None, f"{run_id}--2"]
    assert told[0] is not None


def test_a_run_that_goes_back_stays_out_of_one_that_a_user_called_so(tmp_path: Path, mlflow_uri: str) -> None:
    config = {"mlflow": {"tracking_uri": mlflow_uri}}
    keywords: dict[str, Any] = {"dir": tmp_path / "runs", "delivery": "thread", "quiet": True}
    for run_id, back in (("job-2", None), ("job", None), ("job", 0)):
        with ExperimentLogger(config, id=run_id, name=run_id, resume="auto", resume_step=back, **keywords) as logger:
            for step in (0, 1) if back is None else (1,):
                logger.log_metrics({"x": 1.0}, step=step)
    client = MlflowClient(config["mlflow"]["tracking_uri"])
    (other,) = client.search_runs(["0"], "tags.`rl_logging.run_id` = 'job-2'")
    assert len(client.get_metric_history(other.info.run_id, "x")) == 2
    assert len(client.search_runs(["0"])) == 3


def test_a_step_is_gone_back_to(tmp_path: Path) -> None:
    with offline(tmp_path, id="one") as logger:
        for step in (1, 2, 3):
            logger.log_metrics({"x": 1.0}, step=step)
            logger.save_model(Model(), name="best", step=step)
        logger.save_model(Model(), name="checkpoint", step=3, upload=False)
    with offline(tmp_path, id="one", resume=True, resume_step=2) as logger:
        found = logger.latest_checkpoint()
        assert found is not None
        assert (found.name, found.step, logger.step) == ("best", 2, 2)
        logger.log_metrics({"x": 2.0})
    bundle = Bundle(logger.run_dir)
    is_superseded = superseded(bundle)
    kept = [env.step for env in JournalReader(bundle.journal).read(final=True) if not is_superseded(env)]
    assert [step for step in kept if step is not None] == [1, 1, 2, 2, 3]
    assert last_step(bundle) == 3


def test_a_checkpoint_before_the_one_gone_back_to_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with offline(tmp_path, id="one") as logger:
        for step, name in ((2, "checkpoint"), (4, "best_model"), (6, None)):
            logger.log_metrics({"x": 1.0}, step=step)
            if name is not None:
                logger.save_model(Model(), name=name, step=step)
    with offline(tmp_path, id="one", resume=True, resume_step="checkpoint") as logger:
        logger.latest_checkpoint()
        assert "resume_step" not in caplog.text
        logger.latest_checkpoint("checkpoint")
        assert "has gone back to step 4" in caplog.text
        assert "give resume_step=2" in caplog.text


@pytest.mark.parametrize("resume_step", [5, "checkpoint", None])
def test_where_nothing_comes_again_nothing_changes(tmp_path: Path, resume_step: Any) -> None:
    with offline(tmp_path, id="one") as logger:
        logger.log_metrics({"x": 1.0}, step=5)
        logger.save_model(Model(), name="policy")
    with offline(tmp_path, id="one", resume=True, resume_step=resume_step) as logger:
        assert logger.step == 5
    assert not (logger.run_dir / REWINDS).exists()


def test_without_a_checkpoint_it_begins_anew(tmp_path: Path) -> None:
    with offline(tmp_path, id="one") as logger:
        logger.log_metrics({"x": 1.0}, step=5)
    with offline(tmp_path, id="one", resume=True, resume_step="checkpoint") as logger:
        logger.log_metrics({"x": 1.0})
        assert logger.step == 0
    assert [rewind.step for rewind in rewinds(Bundle(logger.run_dir))] == [-1]


@pytest.mark.parametrize("value", [-1, True, "best", 1.5])
def test_a_resume_step_that_is_none(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match=r"resume_step: got .* may be a step from 0, checkpoint"):
        offline(tmp_path, id="one", resume_step=value)


@pytest.mark.parametrize("damaged", [REWINDS, "sinks/added.json"])
def test_a_run_that_cannot_be_gone_on_with_is_let_go(tmp_path: Path, damaged: str) -> None:
    with offline(tmp_path, id="one") as logger:
        logger.log_metrics({"x": 1.0}, step=5)
    (logger.run_dir / "sinks").mkdir(exist_ok=True)
    (logger.run_dir / damaged).write_text("{")
    before = Bundle(logger.run_dir).writer()
    with pytest.raises(ValueError, match=rf"cannot be gone on with: .*{damaged}"):
        offline(tmp_path, id="one", resume=True)
    assert Bundle(logger.run_dir).writer() == before
    (logger.run_dir / damaged).unlink()
    with offline(tmp_path, id="one", resume=True) as again:
        assert again.resumed
