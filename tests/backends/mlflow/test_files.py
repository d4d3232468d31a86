from __future__ import annotations

import io
import json
import re
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from PIL import Image as Pillow

from rl_logging.records import Artifact, Environment, Image, Model, Record, Video
from rl_logging.sinks import RejectedError
from tests.support.mlflow_driver import CREATED, Bench, Store
from tests.support.mlflow_server import MlflowServer

# How MLflow's pages take a stepped image's file name apart.
STEPPED = re.compile(
    r"images/(?P<key>[^+]+)\+step\+(?P<step>-?\d+)\+timestamp\+(?P<ms>\d+)\+(?P<uuid>[0-9a-f-]{36})"
    r"(?P<small>\+compressed)?\.(?P<suffix>png|webp)"
)


def stepped(files: dict[str, int]) -> list[tuple[str, int, bool]]:
    found = [STEPPED.fullmatch(path) for path in files]
    assert all(found), files
    return sorted((m["key"], int(m["step"]), m["small"] is not None) for m in found if m)


def test_images_are_stepped_images_to_mlflow(bench: Bench) -> None:
    one = Image(seq=1, time=CREATED, step=5, name="eval/frame", path=bench.place_png("media/1.png"))
    two = Image(seq=2, time=CREATED, step=5, name="eval/frame", path=bench.place_png("media/2.png", (600, 1)))
    odd = Image(seq=3, time=CREATED, step=None, name="größe(x)", path=bench.place_png("media/3.png"))
    bench.deliver([one, two, odd])
    again = bench.open()
    again.write([two, odd])
    again.close("finished")
    found = stepped(bench.files("images"))
    assert found == sorted(
        [("eval~frame", 5, small) for small in (False, False, True, True)]
        + [("gro_e_x", 0, False), ("gro_e_x", 0, True)]
    )
    assert bench.run().data.tags["mlflow.loggedImages"] == "True"
    assert ("größe(x)", "gro_e_x") in bench.ledger.names


def test_mlflows_pages_get_the_image_they_ask_for(server_bench: Bench, server: MlflowServer) -> None:
    bench = server_bench
    bench.deliver([Image(seq=1, time=CREATED, step=5, name="eval/frame", path=bench.place_png("media/1.png"))])
    listed = server.get(f"/ajax-api/2.0/mlflow/artifacts/list?run_id={bench.run_id}&path=images")
    paths = [entry["path"] for entry in listed["files"]]
    assert len(stepped(dict.fromkeys(paths, 0))) == 2
    for path in paths:
        query = urllib.parse.urlencode({"path": path, "run_uuid": bench.run_id})
        with urllib.request.urlopen(f"{server.uri}/get-artifact?{query}", timeout=180) as answer:
            picture = Pillow.open(io.BytesIO(answer.read()))
        assert picture.format == ("WEBP" if path.endswith(".webp") else "PNG")


def test_videos_by_name_and_step(bench: Bench) -> None:
    def video(seq: int, step: int, caption: str | None = None) -> Video:
        path = bench.place(f"media/{seq}.mp4", b"x" * seq)
        return Video(seq=seq, time=CREATED, step=step, name="eval/episode", path=path, caption=caption)

    records = [video(1, 10), video(2, 10, caption="episode-2.mp4"), video(3, 20, caption="the best")]
    bench.deliver(records, status=None)
    again = bench.open()
    again.write(records[1:])
    again.close("finished")
    assert bench.files("videos") == {
        "videos/eval/episode/step_10.mp4": 1,
        "videos/eval/episode/step_10-2.mp4": 2,
        "videos/eval/episode/step_20.mp4": 3,
    }
    # A recorder's file name is no caption that is worth a file.
    assert list(bench.files("captions")) == ["captions/videos/eval/episode/step_20.txt"]
    assert bench.text("captions/videos/eval/episode/step_20.txt") == "the best"


def test_models_keep_their_folder_and_aliases_point_to_them(bench: Bench) -> None:
    def model(seq: int, step: int, *aliases: str) -> Model:
        folder = f"models/best_model/step_{step}"
        bench.place(f"{folder}/model.zip", b"m" * seq)
        bench.place(f"{folder}/inner/part.bin", b"p")
        bench.place(f"{folder}/metadata.json", json.dumps({"reward": seq}))
        return Model(seq=seq, time=CREATED, step=step, name="best_model", path=folder + "/", aliases=aliases)

    first, second = model(1, 10, "best"), model(2, 20)
    bench.deliver([first, second])
    assert set(bench.files("models")) == {
        f"models/best_model/step_{step}/{name}"
        for step in (10, 20)
        for name in ("model.zip", "metadata.json", "inner/part.bin", "checksums.json")
    }
    tags = bench.run().data.tags
    assert tags["models/best_model/best"] == "models/best_model/step_10"
    assert tags["models/best_model/latest"] == "models/best_model/step_20"


def test_artifacts_are_found_by_name(bench: Bench) -> None:
    bench.place("files/1/value#1.pdf", b"one")
    bench.place("files/2/value#1.pdf", b"twice")
    bench.place("files/3/a/b?.txt", b"b")
    bench.place("files/3/c.txt", b"c")
    records: list[Record] = [
        Artifact(seq=1, time=CREATED, name="value", path="files/1/value#1.pdf", type="plot", metadata={"k": 1}),
        Artifact(seq=2, time=CREATED, name="value", path="files/2/value#1.pdf"),
        Artifact(seq=3, time=CREATED, step=7, name="data", path="files/3"),
    ]
    bench.deliver(records, status=None)
    bench.deliver(records[1:])
    assert bench.files("artifacts") == {
        "artifacts/value/value_1.pdf": 3,
        "artifacts/value/value_1-2.pdf": 5,
        "artifacts/data/step_7/a/b.txt": 1,
        "artifacts/data/step_7/c.txt": 1,
    }
    tags = bench.run().data.tags
    assert json.loads(tags["artifacts/value"])["path"] == "artifacts/value/value_1-2.pdf"
    assert json.loads(tags["artifacts/data"])["path"] == "artifacts/data/step_7"
    assert ("value#1.pdf", "value_1.pdf") in bench.ledger.names


def test_the_runs_own_file_is_at_the_root_in_its_newest_state(store: Store, tmp_path: Path) -> None:
    bench = Bench(store.uri, tmp_path / "run", {"artifact_path": "{name}/deep"})
    for seq, text in ((1, "{}"), (2, '{"loss": {}}')):
        path = f"artifacts/names.json-{seq}/names.json"
        bench.place(path, text)
        bench.deliver([Artifact(seq=seq, time=CREATED, step=7, name="names.json", path=path, type="names")])
    assert {path: size for path, size in bench.files().items() if path != "config.yaml"} == {"names.json": 12}
    assert json.loads(bench.run().data.tags["artifacts/names.json"]) == {"path": "names.json", "type": "names"}


def test_artifacts_go_where_the_option_says(store: Store, tmp_path: Path) -> None:
    bench = Bench(store.uri, tmp_path / "run", {"artifact_path": "{name}"})
    bench.place("files/1/agent.yaml", b"a: 1")
    bench.place("files/2/agent_10.pt", b"weights")
    records: list[Record] = [
        Artifact(seq=1, time=CREATED, step=7, name="skrl-run", path="files/1/agent.yaml"),
        Artifact(seq=2, time=CREATED, step=7, name="skrl-run/checkpoints", path="files/2"),
    ]
    bench.place("files/3/notes.txt", b"n")
    records.append(Artifact(seq=3, time=CREATED, name="notes.txt", path="files/3/notes.txt"))
    bench.deliver(records, status=None)
    bench.deliver(records[1:])
    found = {"skrl-run/agent.yaml": 4, "skrl-run/checkpoints/agent_10.pt": 7, "notes.txt": 1}
    assert {path: size for path, size in bench.files().items() if path != "config.yaml"} == found


def test_the_environment_fills_mlflows_own_tags(bench: Bench) -> None:
    bench.place("environment.json", "{}")
    bench.place("diff.patch", "+x")
    facts = {"source": "train.py", "git_commit": "abc", "git_branch": "main", "git_remote": "git@x:y", "user": "ann"}
    record = Environment(
        seq=1, time=CREATED, path="environment.json", patch="diff.patch", facts={**facts, "host": "node1"}
    )
    bench.deliver([record])
    assert set(bench.files()) == {"environment.json", "diff.patch"}
    tags = bench.run().data.tags
    assert tags["mlflow.source.name"] == "train.py"
    assert tags["mlflow.source.git.commit"] == "abc"
    assert tags["mlflow.source.git.branch"] == "main"
    assert tags["mlflow.source.git.repoURL"] == "git@x:y"
    assert tags["mlflow.user"] == "ann"
    assert tags["rl_logging.host"] == "node1"


def test_a_file_that_is_gone_is_refused_and_the_rest_goes_on(bench: Bench) -> None:
    missing = Artifact(seq=1, time=CREATED, name="gone", path="files/none.bin")
    there = Artifact(seq=2, time=CREATED, name="here", path=bench.place("files/here.bin", b"x"))
    sink = bench.open()
    with pytest.raises(RejectedError, match="missing from the run directory") as caught:
        sink.write([missing, there])
    assert caught.value.records == (missing,)
    assert sink.confirmed() == 2
    assert set(bench.files("artifacts")) == {"artifacts/here/here.bin"}
    sink.close("finished")


def test_artifacts_of_a_local_store_lie_beside_it(sqlite_bench: Bench, sqlite_uri: str) -> None:
    sqlite_bench.deliver([Artifact(seq=1, time=CREATED, name="a", path=sqlite_bench.place("files/a.bin", b"x"))])
    database = Path(sqlite_uri.removeprefix("sqlite:///"))
    stored = database.parent / "mlruns" / sqlite_bench.experiment / sqlite_bench.run_id / "artifacts"
    assert (stored / "artifacts" / "a" / "a.bin").read_bytes() == b"x"
