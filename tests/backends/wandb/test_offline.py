from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from rl_logging.records import Artifact, Config, Environment, Image, Labels, Metrics, Model, Video
from rl_logging.sinks import RejectedError, TransientError
from tests.support import wandb_file
from tests.support.wandb_sink import (
    RecordingLedger,
    deliver,
    make_context,
    make_sink,
    metrics,
    wait_until,
    wandb_core_children,
)

ROOT = Path(__file__).parents[3]


def offline(tmp_path: Path, **more: object) -> dict[str, object]:
    return {"mode": "offline", "dir": str(tmp_path / "logs"), **more}


def save_model(run_dir: Path, name: str, content: bytes = b"weights") -> str:
    folder = run_dir / "models" / name
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(content)
    return f"models/{name}"


def test_metrics_are_rows_on_the_rl_clock_at_their_own_time(tmp_path: Path) -> None:
    records = [metrics(1, 100, loss=0.5), metrics(2, 50, loss=0.25), metrics(4, 200, loss=0.125, reward=3.0)]

    deliver(make_sink(make_context(tmp_path / "run"), offline(tmp_path)), records)

    run = wandb_file.read(tmp_path / "logs")
    assert run.series("loss") == [(100, 0.5), (50, 0.25), (200, 0.125)]
    assert [row["_step"] for row in run.rows] == [1, 2, 4]
    assert [row["_timestamp"] for row in run.rows] == [record.time for record in records]
    assert run.step_metrics == {"global_step": "", "*": "global_step"}
    assert run.exit_codes == [0]
    assert (run.name, run.project, run.group) == ("a name", "a-project", "a group")
    assert (run.tags, run.notes) == (["one", "two"], "some notes")


def test_the_folder_says_how_to_send_the_run_from_elsewhere(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "a-run"

    deliver(make_sink(make_context(run_dir), offline(tmp_path)), [metrics(1, loss=0.5)])

    (folder,) = wandb_file.offline_directories(tmp_path / "logs")
    note = (folder / "READ_BEFORE_MOVING.txt").read_text()
    assert str(run_dir) in note
    assert "rl-logging sync --to wandb --project PROJECT --mode online a-run" in note


def test_nan_and_the_infinities_survive(tmp_path: Path) -> None:
    record = metrics(1, a=math.nan, b=math.inf, c=-math.inf)

    deliver(make_sink(make_context(tmp_path / "run"), offline(tmp_path)), [record])

    (row,) = wandb_file.read(tmp_path / "logs").rows
    assert math.isnan(row["a"])
    assert (row["b"], row["c"]) == (math.inf, -math.inf)


def test_names_w_and_b_would_lose_are_changed_and_told(tmp_path: Path, ledger: RecordingLedger) -> None:
    values = {"": 1.0, "_step": 2.0, "_timestamp": 3.0, "_hidden": 4.0, "user_step": 5.0, "global_step": 6.0}
    record = Metrics(seq=1, time=1.0, step=7, values=values)

    deliver(make_sink(make_context(tmp_path / "run", ledger), offline(tmp_path)), [record])

    (row,) = wandb_file.read(tmp_path / "logs").rows
    assert {key: row[stored] for key, stored in ledger.names.items()} == {
        key: value for key, value in values.items() if key != "user_step"
    }
    assert (row["user_step"], row["global_step"], row["_step"], row["_timestamp"]) == (5, 7, 1, 1)


def test_a_global_step_equal_to_the_clock_is_no_other_metric(tmp_path: Path, ledger: RecordingLedger) -> None:
    deliver(make_sink(make_context(tmp_path / "run", ledger), offline(tmp_path)), [metrics(1, 7, global_step=7.0)])

    (row,) = wandb_file.read(tmp_path / "logs").rows
    assert row["global_step"] == 7
    assert ledger.names == {}


def test_config_adds_up_key_by_key_and_stays_nested(tmp_path: Path) -> None:
    records = [
        Config(seq=1, time=1.0, values={"agent": {"lr": 0.1, "net": [64, 64]}, "limit": math.inf}),
        Config(seq=2, time=2.0, values={"agent": {"gamma": 0.9, "lr": 0.2}}),
    ]

    deliver(make_sink(make_context(tmp_path / "run"), offline(tmp_path)), records)

    config = wandb_file.read(tmp_path / "logs").config
    assert config == {"agent": {"lr": 0.2, "net": [64, 64], "gamma": 0.9}, "limit": "Infinity"}


def test_config_keys_may_be_chosen(tmp_path: Path) -> None:
    options = offline(tmp_path, config_include_keys=["a", "b"], config_exclude_keys=["b"])

    deliver(
        make_sink(make_context(tmp_path / "run"), options), [Config(seq=1, time=1.0, values={"a": 1, "b": 2, "c": 3})]
    )

    assert wandb_file.read(tmp_path / "logs").config == {"a": 1}


def test_images_and_videos_go_as_files(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "media").mkdir(parents=True)
    Picture.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(run_dir / "media/state.png")
    (run_dir / "media/episode.mp4").write_bytes(b"not looked into")
    records = [
        Image(seq=1, time=1.0, step=10, name="eval/state", path="media/state.png", caption="start"),
        Video(seq=2, time=2.0, step=20, name="episode", path="media/episode.mp4", caption="end"),
    ]

    deliver(make_sink(make_context(run_dir), offline(tmp_path)), records)

    (directory,) = wandb_file.offline_directories(tmp_path / "logs")
    run = wandb_file.read(directory)
    ((image_step, image),) = run.series("eval/state")
    ((video_step, video),) = run.series("episode")
    assert (image_step, image["_type"], image["caption"]) == (10, "image-file", "start")
    assert (video_step, video["_type"], video["caption"]) == (20, "video-file", "end")
    for told, name in ((image, "state.png"), (video, "episode.mp4")):
        assert told["path"] in run.files
        assert (directory / "files" / told["path"]).read_bytes() == (run_dir / "media" / name).read_bytes()


def test_each_save_of_equal_weights_is_a_version_of_its_own(tmp_path: Path, ledger: RecordingLedger) -> None:
    run_dir = tmp_path / "run"
    metadata = {f"key{i}": i for i in range(120)}
    records = [
        Model(seq=1, time=1.0, step=10, name="best model", path=save_model(run_dir, "1"), aliases=("best",)),
        Model(seq=2, time=2.0, step=20, name="best model", path=save_model(run_dir, "2"), metadata=metadata),
    ]

    deliver(make_sink(make_context(run_dir, ledger), offline(tmp_path)), records)

    first, second = wandb_file.read(tmp_path / "logs").artifacts
    assert first["name"] == second["name"] == "best-model-run4test"
    assert first["digest"] != second["digest"]
    assert (first["type"], set(first["aliases"]), second["aliases"]) == ("model", {"best", "latest"}, ["latest"])
    assert first["files"]["model.pt"].read_bytes() == b"weights"
    assert len(second["metadata"]) == 100
    assert json.loads(second["files"]["record.json"].read_text())["metadata"] == metadata
    assert ledger.names == {"best model": "best-model-run4test"}
    assert "metadata of best model" in ledger.cut


def test_an_artifact_of_one_file(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "files").mkdir(parents=True)
    (run_dir / "files/value.pdf").write_bytes(b"pdf")
    record = Artifact(seq=1, time=1.0, name="value", path="files/value.pdf", type="plot", metadata={"a": math.nan})

    deliver(make_sink(make_context(run_dir), offline(tmp_path)), [record])

    (artifact,) = wandb_file.read(tmp_path / "logs").artifacts
    assert (artifact["name"], artifact["type"], artifact["metadata"]) == ("value-run4test", "plot", {"a": "NaN"})
    assert set(artifact["files"]) == {"value.pdf", "record.json"}


def test_environment_and_labels(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "environment.json").write_text('{"python": "3"}')
    (run_dir / "diff.patch").write_text("-a\n+b\n")
    facts = {"source": "train.py", "git_commit": "c0ffee", "git_remote": "git@example.org:x.git", "host": "node7"}
    records = [
        Labels(seq=1, time=1.0, tags=("x", "y" * 70)),
        Environment(seq=2, time=2.0, path="environment.json", patch="diff.patch", facts=facts),
        Labels(seq=3, time=3.0, notes="later"),
    ]

    deliver(make_sink(make_context(run_dir), offline(tmp_path)), records)

    (directory,) = wandb_file.offline_directories(tmp_path / "logs")
    run = wandb_file.read(directory)
    assert (run.tags, run.notes, run.commit) == (["x", "y" * 64], "later", "c0ffee")
    assert set(run.files) >= {"environment.json", "diff.patch", "wandb-metadata.json"}
    assert (directory / "files/diff.patch").read_text() == "-a\n+b\n"
    metadata = json.loads((directory / "files/wandb-metadata.json").read_text())
    assert (metadata["args"], metadata["host"], metadata["git"]["commit"]) == (["--lr", "1"], "node7", "c0ffee")


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("failed", 1), ("killed", 255)])
def test_the_run_ends_as_it_ended(tmp_path: Path, status: str, code: int) -> None:
    deliver(make_sink(make_context(tmp_path / "run"), offline(tmp_path)), [metrics(1, a=1.0)], status)

    assert wandb_file.read(tmp_path / "logs").exit_codes == [code]


def test_let_go_a_run_is_not_ended_and_goes_on_later(tmp_path: Path) -> None:
    options, context = offline(tmp_path), make_context(tmp_path / "run")
    before = [Config(seq=1, time=1.0, values={"a": 1}), metrics(2, x=1.0, y=5.0)]

    state = deliver(make_sink(context, options), before, None)
    assert wandb_file.read(tmp_path / "logs").exit_codes == []
    state = deliver(make_sink(context, options), [*before, metrics(3, x=2.0)], "finished", state)

    run = wandb_file.read(tmp_path / "logs")
    assert run.series("x") == [(20, 1.0), (30, 2.0)]
    assert run.exit_codes == [0]
    last = wandb_file.read(Path(state["fragments"][-1]))
    assert last.config == {"a": 1}
    assert last.summary["y"] == 5.0


def test_what_cannot_be_stored_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    sink = make_sink(make_context(tmp_path / "run"), offline(tmp_path))
    sink.open(None)
    gone = Model(seq=2, time=2.0, name="lost", path="models/none")

    with pytest.raises(RejectedError, match="model lost") as caught:
        sink.write([metrics(1, a=1.0), gone, metrics(3, a=3.0)])

    assert caught.value.records == (gone,)
    wait_until(lambda: sink.confirmed() == 3)
    sink.close("finished")
    assert len(wandb_file.read(tmp_path / "logs").rows) == 2


def test_a_written_batch_that_comes_again_is_written_once(tmp_path: Path) -> None:
    sink = make_sink(make_context(tmp_path / "run"), offline(tmp_path))
    sink.open(None)
    batch = [metrics(1, a=1.0), metrics(2, a=2.0)]
    sink.write(batch)
    sink.write(batch)
    sink.close("finished")
    sink.close("failed")

    assert sink.confirmed() == 2
    run = wandb_file.read(tmp_path / "logs")
    assert [row["_step"] for row in run.rows] == [1, 2]
    assert run.exit_codes == [0]


KILLED = """
import json, os, sys
from pathlib import Path
from rl_logging.records import Config, Model
from tests.support.wandb_sink import make_context, make_sink, metrics, wait_until

root = Path(sys.argv[1])
sink = make_sink(make_context(root / "run"), {"mode": "offline", "dir": str(root / "logs")})
state = dict(sink.open(None))
sink.write([Config(seq=1, time=1.0, values={"a": {"b": 1}})])
sink.write([Model(seq=2, time=1.0, step=1, name="m", path="models/1")])
sink.write([metrics(seq, a=float(seq), b=1.0) for seq in range(3, 301)])
wait_until(lambda: sink.confirmed() >= 250)
sink.write([metrics(seq, a=float(seq)) for seq in range(301, 500)])
print(json.dumps({"state": state, "confirmed": sink.confirmed()}), flush=True)
sys.stdin.read()
"""


def test_killed_and_opened_again_every_row_is_there_once(tmp_path: Path) -> None:
    path = save_model(tmp_path / "run", "1")
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    assert child.stdout is not None
    told = json.loads(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=180)

    # A worker that died before it kept the cursor hands everything over again.
    sink = make_sink(make_context(tmp_path / "run"), offline(tmp_path))
    everything = [
        Config(seq=1, time=1.0, values={"a": {"b": 1}}),
        Model(seq=2, time=1.0, step=1, name="m", path=path),
        *(metrics(seq, a=float(seq)) for seq in range(3, 601)),
    ]
    state = deliver(sink, everything, "killed", told["state"])

    run = wandb_file.read([Path(fragment) for fragment in state["fragments"]])
    assert told["confirmed"] >= 250
    assert [row["a"] for row in run.rows] == list(range(3, 601))
    assert [row["_step"] for row in run.rows] == list(range(3, 601))
    assert len(run.artifacts) == 1
    assert wandb_file.read(Path(state["fragments"][-1])).config == {"a": {"b": 1}}
    assert run.exit_codes == [255]


def test_wandb_core_killed_before_the_end_loses_nothing(tmp_path: Path) -> None:
    sink = make_sink(make_context(tmp_path / "run"), offline(tmp_path))
    sink.open(None)
    sink.write([metrics(seq, a=float(seq)) for seq in range(1, 50)])
    (core,) = wandb_core_children()
    os.kill(core, signal.SIGKILL)
    sink.close("finished")

    assert sink.confirmed() == 49
    run = wandb_file.read(tmp_path / "logs")
    assert [row["a"] for row in run.rows] == list(range(1, 50))
    assert run.exit_codes == [0]


def test_wandb_core_killed_under_way_loses_nothing(tmp_path: Path) -> None:
    sink = make_sink(make_context(tmp_path / "run"), offline(tmp_path))
    sink.open(None)
    sink.write([metrics(seq, a=float(seq)) for seq in range(1, 50)])
    (core,) = wandb_core_children()
    os.kill(core, signal.SIGKILL)
    records = [metrics(seq, a=float(seq)) for seq in range(50, 200)]

    def written() -> bool:
        try:
            sink.write(records)
        except TransientError:
            return False
        return True

    wait_until(written)
    sink.close("finished")

    assert sink.confirmed() == 199
    assert [row["a"] for row in wandb_file.read(tmp_path / "logs").rows] == list(range(1, 200))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    options = {"mode": "offline", "dir": str(tmp_path / "taken/logs")}

    with pytest.raises(RejectedError, match=f"{tmp_path}/taken/logs cannot be written"):
        make_sink(make_context(tmp_path / "run"), options).open(None)


@pytest.mark.parametrize(("error", "kind"), [(errno.EROFS, RejectedError), (errno.ENOSPC, TransientError)])
def test_a_folder_that_cannot_be_written_now_may_be_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, kind: type[Exception]
) -> None:
    def touch(path: Path) -> None:
        raise OSError(error, os.strerror(error), str(path))

    # Only a mount could make it real.
    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(kind, match="cannot be written"):
        make_sink(make_context(tmp_path / "run"), offline(tmp_path)).open(None)


def test_where_wandb_went_elsewhere_all_the_same_nothing_is_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("rl_logging_wandb.opening.prepare", lambda folder: None)
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(TransientError, match="went to"):
        make_sink(make_context(tmp_path / "run"), {"mode": "offline", "dir": str(tmp_path / "taken/logs")}).open(None)
