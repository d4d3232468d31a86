"""Files and artifacts that the server is slow to take, cannot take, or refuses."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from PIL import Image as Picture

from rl_logging.records import Image, Model, Record
from rl_logging.sinks import RejectedError, Sink
from tests.support.wandb_server import WandbServer
from tests.support.wandb_sink import RUN_ID, make_context, make_sink, metrics, wait_until


@pytest.fixture(autouse=True)
def quick_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_logging_wandb.uploads.AGAIN_S", 0.05)
    for kind in ("FILE_TRANSFER", "GRAPHQL"):
        monkeypatch.setenv(f"WANDB_X_{kind}_RETRY_MAX", "1")
        monkeypatch.setenv(f"WANDB_X_{kind}_RETRY_WAIT_MIN_SECONDS", "1")
        monkeypatch.setenv(f"WANDB_X_{kind}_RETRY_WAIT_MAX_SECONDS", "1")


@pytest.fixture
def sink(tmp_path: Path, server: WandbServer) -> Sink:
    sink = make_sink(make_context(tmp_path / "run"), {"mode": "online", "dir": str(tmp_path / "logs")})
    sink.open(None)
    return sink


def model(run_dir: Path, seq: int) -> Model:
    path = f"models/{seq}"
    (run_dir / path).mkdir(parents=True)
    (run_dir / path / "model.pt").write_bytes(b"weights %d" % seq)
    return Model(seq=seq, time=1.0, step=10, name=f"m{seq}", path=path)


def picture(run_dir: Path, seq: int) -> Image:
    Picture.new("RGB", (8, 8), (seq, 0, 0)).save(run_dir / f"{seq}.png")
    return Image(seq=seq, time=1.0, step=10, name=f"p{seq}", path=f"{seq}.png")


def refusal(sink: Sink) -> RejectedError:
    """Asks until the sink tells of a refusal."""
    told: list[RejectedError] = []

    def asked() -> bool:
        try:
            sink.confirmed()
        except RejectedError as error:
            told.append(error)
        return bool(told)

    wait_until(asked)
    return told[0]


def settle(sink: Sink, seq: int) -> None:
    wait_until(lambda: sink.confirmed() == seq)


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("CreateArtifact", 200, "CreateArtifact refused with 200"),
        ("CommitArtifact", 403, "returned error 403"),
        ("put artifact", 403, "status: 403"),
        ("put manifest", 400, "status: 400"),
    ],
)
def test_an_artifact_the_server_refuses_is_rejected_alone(
    tmp_path: Path, server: WandbServer, sink: Sink, fault: str, status: int, words: str
) -> None:
    server.faults[fault] = status
    refused = model(tmp_path / "run", 2)
    sink.write([metrics(1, a=1.0), refused, metrics(3, a=3.0)])

    error = refusal(sink)
    assert error.records == (refused,)
    assert str(error).startswith("model m2: ")
    assert words in str(error)
    del server.faults[fault]
    sink.write([model(tmp_path / "run", 4)])
    settle(sink, 4)
    sink.close("finished")

    assert [row["a"] for row in server.runs[RUN_ID].rows] == [1, 3]
    assert server.artifact(f"m2-{RUN_ID}") == []
    assert len(server.artifact(f"m4-{RUN_ID}")) == 1


@pytest.mark.parametrize("fault", ["CreateArtifact", "put artifact"])
def test_an_artifact_the_server_cannot_take_now_stays_owed_until_it_can(
    tmp_path: Path, server: WandbServer, sink: Sink, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "rl_logging.wandb")
    server.faults[fault] = 503
    sink.write([model(tmp_path / "run", 1), metrics(2, a=2.0)])
    failures = 4  # one more than refusals are taken for an answer

    def failed() -> bool:
        assert sink.confirmed() == 0
        return sum("does not say that it has" in record.getMessage() for record in caplog.records) >= failures

    wait_until(failed, 30.0)
    del server.faults[fault]
    settle(sink, 2)
    sink.close("finished")

    assert len(server.artifact(f"m1-{RUN_ID}")) == 1


def test_an_upload_under_way_is_not_disturbed_by_the_question_whether_it_is_there(
    tmp_path: Path, server: WandbServer, sink: Sink
) -> None:
    server.holds["put artifact"] = hold = threading.Event()
    sink.write([model(tmp_path / "run", 1)])
    wait_until(lambda: "CreateArtifactFiles" in server.operations)
    assert [sink.confirmed() for _ in range(20)] == [0] * 20
    hold.set()
    settle(sink, 1)
    sink.close("finished")

    assert server.operations.count("CreateArtifact") == 1
    assert len(server.artifact(f"m1-{RUN_ID}")) == 1


def test_a_picture_whose_upload_failed_is_sent_again(
    tmp_path: Path, server: WandbServer, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "rl_logging.wandb")
    server.faults["put run"] = 503
    sink.write([picture(tmp_path / "run", 1)])

    def failed() -> bool:
        assert sink.confirmed() == 0
        return "W&B did not take" in caplog.text

    wait_until(failed)
    del server.faults["put run"]
    settle(sink, 1)
    sink.close("finished")

    (row,) = server.runs[RUN_ID].rows
    assert server.runs[RUN_ID].files[row["p1"]["path"]] == (tmp_path / "run/1.png").read_bytes()


def test_a_picture_the_server_refuses_is_rejected_alone(tmp_path: Path, server: WandbServer, sink: Sink) -> None:
    server.faults["put run"] = 403
    records: list[Record] = [metrics(1, a=1.0), picture(tmp_path / "run", 2), metrics(3, a=3.0)]
    sink.write(records)

    error = refusal(sink)
    assert error.records == (records[1],)
    assert "403" in str(error)
    settle(sink, 3)
    sink.close("finished")
