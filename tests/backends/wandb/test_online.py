from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from PIL import Image as Picture

from rl_logging.records import Config, Environment, Image, Labels, Model, Record
from rl_logging.sinks import RejectedError, TransientError
from rl_logging_wandb import opening
from tests.support.wandb_server import WandbServer
from tests.support.wandb_sink import RUN_ID, deliver, make_context, make_sink, metrics, wait_until

ROOT = Path(__file__).parents[3]


def online(tmp_path: Path, **more: object) -> dict[str, object]:
    return {"mode": "online", "dir": str(tmp_path / "logs"), **more}


def everything(run_dir: Path) -> list[Record]:
    (run_dir / "models/1").mkdir(parents=True)
    (run_dir / "models/1/model.pt").write_bytes(b"weights")
    Picture.new("RGB", (8, 8)).save(run_dir / "state.png")
    (run_dir / "environment.json").write_text("{}")
    return [
        Config(seq=1, time=1.0, values={"agent": {"lr": 0.1}}),
        Environment(seq=2, time=1.0, path="environment.json", facts={"git_commit": "c0ffee"}),
        metrics(3, 100, loss=0.5, bad=math.nan),
        Image(seq=4, time=4.0, step=90, name="state", path="state.png"),
        Model(seq=5, time=5.0, step=110, name="m", path="models/1", aliases=("best",)),
        Labels(seq=6, time=6.0, tags=("new",), notes="later"),
        metrics(7, 120, loss=0.25),
    ]


def test_a_folder_without_file_locks_is_done_without(
    tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, temporary = tmp_path / "logs", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(opening.tempfile, "tempdir", str(temporary))
    lock = opening.fcntl.flock

    def flock(file: IO[bytes], how: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{file.fileno()}").partition(" ")[0]).is_relative_to(logs):
            raise OSError(errno.ENOLCK, "No locks available")
        lock(file, how)

    monkeypatch.setattr(opening.fcntl, "flock", flock)
    deliver(make_sink(make_context(tmp_path / "run"), online(tmp_path)), everything(tmp_path / "run"))
    assert [row["_step"] for row in server.runs[RUN_ID].rows] == [3, 4, 7]
    assert list(logs.iterdir()) == []
    assert list(temporary.glob("rl_logging-*")) == [], "what W&B needed was cleared away"


def test_the_server_has_everything_once_and_says_so(tmp_path: Path, server: WandbServer) -> None:
    state = deliver(make_sink(make_context(tmp_path / "run"), online(tmp_path)), everything(tmp_path / "run"))

    run = server.runs[RUN_ID]
    assert [(row["_step"], row["global_step"], row.get("loss")) for row in run.rows] == [
        (3, 100, 0.5),
        (4, 90, None),
        (7, 120, 0.25),
    ]
    assert run.rows[0]["_timestamp"] == 1_700_000_003.0
    assert math.isnan(run.rows[0]["bad"])
    assert run.files[run.rows[1]["state"]["path"]] == (tmp_path / "run/state.png").read_bytes()
    assert {"environment.json", "wandb-metadata.json"} <= set(run.files)
    assert run.config["agent"] == {"lr": 0.1}
    assert (run.fields["tags"], run.fields["notes"], run.fields["commit"]) == (["new"], "later", "c0ffee")
    assert (run.complete, run.exit_code) == (True, 0)
    (artifact,) = server.artifact(f"m-{RUN_ID}")
    assert artifact.files["model.pt"] == b"weights"
    assert {alias["alias"] for alias in artifact.input["aliases"]} == {"best", "latest"}
    assert state["url"] == f"{server.url}/tester/a-project/runs/{RUN_ID}"


def test_nothing_is_confirmed_before_the_server_has_it(
    tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "600")
    sink = make_sink(make_context(tmp_path / "run"), online(tmp_path))
    sink.open(None)
    sink.write([metrics(1, a=1.0)])
    asked = len(server.operations)
    wait_until(lambda: sink.confirmed() > 0 or "RunHistoryKeys" in server.operations[asked:])

    assert sink.confirmed() == 0
    assert server.runs[RUN_ID].rows == []
    sink.close("finished")
    assert sink.confirmed() == 1


def test_let_go_a_run_goes_on_where_the_server_is(tmp_path: Path, server: WandbServer) -> None:
    context = make_context(tmp_path / "run")
    first = [metrics(seq, a=float(seq)) for seq in range(1, 4)]

    state = deliver(make_sink(context, online(tmp_path)), first, None)
    assert not server.runs[RUN_ID].complete
    deliver(make_sink(context, online(tmp_path)), [*first, metrics(4, a=4.0)], "failed", state)

    run = server.runs[RUN_ID]
    assert [(row["_step"], row["a"]) for row in run.rows] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert run.exit_code == 1


def test_an_adopted_run_s_rows_stay_and_ours_follow(tmp_path: Path, server: WandbServer) -> None:
    options = online(tmp_path, id="adopted")
    deliver(make_sink(make_context(tmp_path / "one"), options), [metrics(5, a=5.0)])

    other = make_context(tmp_path / "two", run_id="another")
    deliver(make_sink(other, options), [metrics(1, a=1.0), metrics(2, a=2.0)])

    assert [(row["_step"], row["a"]) for row in server.runs["adopted"].rows] == [(5, 5), (6, 1), (7, 2)]


KILLED = """
import sys
from pathlib import Path
from tests.support.wandb_sink import make_context, make_sink, metrics, wait_until

root = Path(sys.argv[1])
sink = make_sink(make_context(root / "run"), {"mode": "online", "dir": str(root / "logs")})
base = sink.open(None)["base"]
sink.write([metrics(seq, a=float(seq)) for seq in range(1, 101)])
wait_until(lambda: sink.confirmed() == 100)
sink.write([metrics(seq, a=float(seq)) for seq in range(101, 200)])
print(base, flush=True)
sys.stdin.read()
"""


def test_killed_and_opened_again_every_row_is_there_once(tmp_path: Path, server: WandbServer) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    assert child.stdout is not None
    base = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=180)

    sink = make_sink(make_context(tmp_path / "run"), online(tmp_path))
    state = {"id": RUN_ID, "base": base}
    deliver(sink, [metrics(seq, a=float(seq)) for seq in range(1, 301)], "finished", state)

    assert [row["a"] for row in server.runs[RUN_ID].rows] == list(range(1, 301))


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, RejectedError, "WANDB_API_KEY"),
        (403, RejectedError, "entity and project"),
        (404, RejectedError, "404"),
        (500, TransientError, "does not answer"),
    ],
)
def test_a_server_that_refuses(
    tmp_path: Path,
    server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    error: type[Exception],
    words: str,
) -> None:
    server.refuse = status
    if status < 500:  # an answer that is taken at once, however late it comes
        monkeypatch.setattr(opening, "KNOCK_TIMEOUT_S", 60)
    sink = make_sink(make_context(tmp_path / "run"), online(tmp_path, settings={"init_timeout": 60}))

    with pytest.raises(error, match=words):
        sink.open(None)

    assert list((tmp_path / "logs/wandb").glob("run-*")) == []


def test_no_server_is_waited_for_so_long_only_and_found_later(tmp_path: Path, server: WandbServer) -> None:
    options = online(tmp_path, settings={"init_timeout": 60})
    sink = make_sink(make_context(tmp_path / "run"), {**options, "base_url": "http://127.0.0.1:9"})
    with pytest.raises(TransientError):
        sink.open(None)

    deliver(make_sink(make_context(tmp_path / "run"), options), [metrics(1, a=1.0)])
    assert len(server.runs[RUN_ID].rows) == 1


def test_an_outage_in_mid_run_is_told_and_passes(
    tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rl_logging_wandb.online_store.SILENT_AFTER_S", 0.5)
    sink = make_sink(make_context(tmp_path / "run"), {"mode": "online", "dir": str(tmp_path / "logs")})
    sink.open(None)
    server.refuse = 500
    sink.write([metrics(1, a=1.0)])

    def outage() -> bool:
        try:
            sink.confirmed()
        except TransientError as error:
            return "W&B does not answer" in str(error)
        return False

    wait_until(outage)
    server.refuse = None
    wait_until(lambda: not outage() and sink.confirmed() == 1, 60.0)
    sink.close("finished")
    assert [row["a"] for row in server.runs[RUN_ID].rows] == [1.0]


def test_without_a_key_nobody_is_asked_for_one(
    tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(RejectedError, match="wandb login"):
        make_sink(make_context(tmp_path / "run"), online(tmp_path)).open(None)


def test_a_wrong_setting_is_told(tmp_path: Path, server: WandbServer) -> None:
    with pytest.raises(RejectedError, match="no_such_setting"):
        make_sink(make_context(tmp_path / "run"), online(tmp_path, settings={"no_such_setting": 1})).open(None)


def test_a_run_open_for_one_destination_makes_the_other_wait(tmp_path: Path, server: WandbServer) -> None:
    context = make_context(tmp_path / "run")
    sink = make_sink(context, online(tmp_path))
    sink.open(None)
    with pytest.raises(TransientError, match="another destination"):
        make_sink(context, {**online(tmp_path), "mode": "offline"}).open(None)
    sink.close("finished")
