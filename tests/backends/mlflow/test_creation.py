"""The run is created once, also where the request for it was given up and acts later all the same."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from rl_logging.bundle import Bundle
from rl_logging.delivery import DestinationWorker
from rl_logging.delivery.opening import Opening
from rl_logging.plugins import load
from rl_logging.records import Metrics
from rl_logging.sinks import Sink, SinkContext, TransientError
from rl_logging_mlflow import latecomers, tables
from rl_logging_mlflow.latecomers import UNANSWERED_TAG
from tests.support.bundles import fill, make_bundle, make_entry
from tests.support.deadlines import Deadline
from tests.support.fault_proxy import Fault, FaultProxy, Request
from tests.support.mlflow_driver import CREATED, Bench
from tests.support.mlflow_server import MlflowServer

LET_GO_S = 0.2


def creates(request: Request) -> bool:
    return request.path.endswith("/runs/create")


def runs_of(server: MlflowServer, experiment: str) -> list[str]:
    """Returns the ids of an experiment's runs that are not deleted, by another way than the proxy's."""
    client = MlflowClient(tracking_uri=server.uri)
    found = client.get_experiment_by_name(experiment)
    return [run.info.run_id for run in client.search_runs([found.experiment_id])]


def worker_to(uri: str, experiment: str, folder: Path) -> tuple[DestinationWorker, Bundle, list[str]]:
    """Returns a worker, its run, which goes on, and what it tells of errors."""
    options = {"tracking_uri": uri, "experiment": experiment}
    entry = make_entry("mlflow", **options)
    bundle = make_bundle(folder, entry)
    errors: list[str] = []

    def make(context: SinkContext) -> object:
        return load("mlflow").make_sink(context, options)

    worker = DestinationWorker(
        bundle,
        entry,
        make,  # type: ignore[arg-type]
        live=True,
        tell=lambda state: errors.append(state.last_error or ""),
        warn=lambda message: None,
        patience_s=60,
        call_s=LET_GO_S,
    )
    return worker, bundle, errors


def await_that(met: Callable[[], bool], what: str) -> None:
    """Waits until `met()`, for at most a minute."""
    pause = threading.Event()
    for _ in range(1200):
        if met():
            return
        pause.wait(0.05)
    raise AssertionError(what)


def test_a_creation_that_was_given_up_leaves_no_run(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, deadline = tmp_path.name, Deadline(monkeypatch)
    MlflowClient(tracking_uri=server.uri).create_experiment(experiment)
    with FaultProxy(lambda: server.uri) as proxy:
        worker, bundle, errors = worker_to(proxy.url, experiment, tmp_path)
        writer = fill(bundle, 20, end=None)
        proxy.put(Fault("hold", creates, most=1))
        worker.start()
        try:
            proxy.await_hits(1, 60)
            abandoned = opening_of(worker)._sink
            assert abandoned is not None
            deadline.passes()
            # Another request makes the run while the first is on its way.
            await_that(lambda: len(runs_of(server, experiment)) == 1, "no second try")
            await_that(lambda: worker.book.state.confirmed == 20, "not delivered")
            assert any("the sink's open has not returned" in error for error in errors)
            (ours,) = runs_of(server, experiment)
            assert worker.book.state.remote_id == ours
            proxy.lift()
            await_that(lambda: not abandoned.is_busy(), "the first request has not come back")
            writer.append("end", None, {"status": "finished"})
        finally:
            proxy.lift()
            worker.run_is_over()
            worker.join(60)
        assert worker.book.state.phase == "done"
        assert runs_of(server, experiment) == [ours]


def opening_of(worker: DestinationWorker) -> Opening:
    return worker._opening


def test_a_creation_whose_late_answer_is_lost_leaves_no_run_at_the_end(server: MlflowServer, tmp_path: Path) -> None:
    with FaultProxy(lambda: server.uri) as proxy:
        bench = Bench(proxy.url, tmp_path / "run")
        proxy.put(Fault("hold and lose answer", creates, most=1))
        failed: list[Exception] = []

        def open_first(sink: Sink) -> None:
            try:
                sink.open(None)
            except TransientError as error:
                failed.append(error)

        first = threading.Thread(target=open_first, args=(bench.sink(),), daemon=True)
        first.start()
        proxy.await_hits(1, 60)
        second = bench.open()
        proxy.lift()
        first.join(60)
        assert failed
        assert len(runs_of(server, bench.experiment)) == 2
        second.close("finished")
        assert runs_of(server, bench.experiment) == [bench.run_id]


def test_a_run_that_comes_after_the_end_goes_with_the_next_run_s_opening(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says_so(bench: Bench) -> bool:
        return UNANSWERED_TAG in MlflowClient(tracking_uri=server.uri).get_run(bench.run_id).data.tags

    with FaultProxy(lambda: server.uri) as proxy:
        bench = Bench(proxy.url, tmp_path / "run")
        other = Bench(server.uri, tmp_path / "other", {"experiment": bench.experiment})
        proxy.put(Fault("hold and lose answer", creates, most=1))
        first = threading.Thread(target=open_in_vain, args=(bench.sink(),), daemon=True)
        first.start()
        proxy.await_hits(1, 60)
        bench.deliver([Metrics(seq=1, time=CREATED, step=1, values={"a": 1.0})])
        assert says_so(bench)
        other.deliver([])
        assert sorted(runs_of(server, bench.experiment)) == sorted([bench.run_id, other.run_id])
        proxy.lift()
        first.join(60)
        assert len(runs_of(server, bench.experiment)) == 3
    for _ in range(2):
        other.open().close("finished")
        assert sorted(runs_of(server, bench.experiment)) == sorted([bench.run_id, other.run_id])
        assert says_so(bench)
    monkeypatch.setattr(latecomers, "LOOKED_FOR_S", -1.0)
    other.open().close("finished")
    assert not says_so(bench)
    assert not says_so(other)
    assert sorted(runs_of(server, bench.experiment)) == sorted([bench.run_id, other.run_id])


def test_what_may_be_somebody_s_is_never_deleted_as_a_late_one(server: MlflowServer, tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri=server.uri)
    with FaultProxy(lambda: server.uri) as proxy:
        bench = Bench(proxy.url, tmp_path / "run")
        other = Bench(server.uri, tmp_path / "other", {"experiment": bench.experiment})
        proxy.put(Fault("hold and lose answer", creates, most=1))
        first = threading.Thread(target=open_in_vain, args=(bench.sink(),), daemon=True)
        first.start()
        proxy.await_hits(1, 60)
        bench.deliver([])  # without any figures of its own
        ours = client.get_run(bench.run_id)
        # A script goes on in a run of its own, with all that this one says of itself.
        copied = client.create_run(ours.info.experiment_id, tags=ours.data.tags).info.run_id
        proxy.lift()
        first.join(60)
        (late,) = set(runs_of(server, bench.experiment)) - {bench.run_id, copied}
        client.log_text(late, "mine", "notes.txt")
        other.open().close("finished")
        bench.open().close("finished")
        assert set(runs_of(server, bench.experiment)) == {bench.run_id, copied, late, other.run_id}
        shutil.rmtree(server.folder / "artifacts" / ours.info.experiment_id / late)
        client.set_terminated(late)
        other.open().close("finished")
        assert set(runs_of(server, bench.experiment)) == {bench.run_id, copied, late, other.run_id}
        client.update_run(late, status="RUNNING")
        other.open().close("finished")
        assert set(runs_of(server, bench.experiment)) == {bench.run_id, copied, other.run_id}


def open_in_vain(sink: Sink) -> None:
    with pytest.raises(TransientError):
        sink.open(None)


def test_a_run_that_a_late_answer_has_made_ours_is_the_one(server: MlflowServer, tmp_path: Path) -> None:
    with FaultProxy(lambda: server.uri) as proxy:
        bench = Bench(proxy.url, tmp_path / "run")
        first, second = bench.sink(), bench.sink()
        proxy.put(Fault("hold", creates, most=2))
        opened: dict[str, str] = {}

        def open_one(name: str) -> None:
            sink = first if name == "first" else second
            opened[name] = str(sink.open(None)["id"])

        threads = [threading.Thread(target=open_one, args=(name,), daemon=True) for name in ("first", "second")]
        for number, thread in enumerate(threads, start=1):
            thread.start()
            proxy.await_hits(number, 60)
        proxy.lift()
        for thread in threads:
            thread.join(60)
        assert opened["first"] == opened["second"]
        assert runs_of(server, bench.experiment) == [opened["first"]]


def test_damaged_files_of_the_sink_s_own_are_put_aside_and_told(server: MlflowServer, tmp_path: Path) -> None:
    bench = Bench(server.uri, tmp_path / "run")
    bench.open().close(None)
    files = sorted((tmp_path / "run" / "sinks" / "mlflow").glob("creation-*.json"))
    memory = tmp_path / "run" / "sinks" / "mlflow" / f"{bench.run_id}.json"
    for path in (*files, memory):
        with path.open("wb") as file:
            file.truncate(1 << 40)  # with holes for all of it
    bench.deliver([Metrics(seq=1, time=CREATED, step=1, values={"a": 1.0})])
    assert len(files) == 1
    assert len([text for text in bench.ledger.warnings if "is damaged" in text]) == 2
    assert [step for step, _, _ in bench.history("a")] == [1]


def test_a_database_that_was_deleted_between_two_runs_is_made_anew(sqlite_uri: str, tmp_path: Path) -> None:
    template = Path(sqlite_uri.removeprefix("sqlite:///"))
    tables.ensure(sqlite_uri, template, template.parent)
    database = tmp_path / "mlflow.db"
    shutil.copy(template, database)
    for name in ("first", "second"):
        bench = Bench(f"sqlite:///{database}", tmp_path / name)
        bench.deliver([Metrics(seq=1, time=CREATED, step=1, values={"a": 1.0})])
        assert [step for step, _, _ in bench.history("a")] == [1]
        database.unlink()


def test_a_database_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "mlflow.db").mkdir()
    for database in (tmp_path / "file/mlflow.db", tmp_path / "mlflow.db"):
        bench = Bench(f"sqlite:///{database}", tmp_path / "run")
        with pytest.raises(TransientError, match=r"cannot be written.*mlflow\.tracking_uri"):
            bench.open()
