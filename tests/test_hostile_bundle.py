"""Run directories from elsewhere: whatever one holds, it is read, or refused in words, and nothing else happens."""

from __future__ import annotations

import json
import os
import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rl_logging import kept
from rl_logging.bundle import Bundle, BundleError
from rl_logging.bundle.destination import DestinationFile, destinations, states
from rl_logging.bundle.owing import owing
from rl_logging.cli import main
from rl_logging.journal import JournalWriter
from rl_logging.testing.files import FileStore
from tests.support.bundles import fill, make_bundle, make_entry
from tests.support.processes import run_command

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
paths = st.sampled_from(
    ["../../up", "/etc/passwd", "..", "a/../../b", "sinks/../..", "", "\x00", "a" * 300, "~/x", "é/\ud800"]
)
NESTED = b"[" * 100_000
slowly = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def changed(document: Any, place: list[int], value: Any) -> Any:
    """Returns a document with one of its values replaced; `place` says which, by numbers that fit anything."""
    if not place or not isinstance(document, (dict, list)) or not document:
        return value
    keys = sorted(document) if isinstance(document, dict) else range(len(document))
    key = keys[place[0] % len(keys)]
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[key] = changed(document[key], place[1:], value)  # type: ignore[index]
    return copy


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory as we make them, with records that a store has half of."""
    folder = tmp_path_factory.mktemp("sound")
    entry = make_entry("file", factory="rl_logging.testing.files:make", path=str(folder / "store.jsonl"))
    bundle = make_bundle(folder, entry)
    fill(bundle, 10)
    file = DestinationFile(bundle, entry)
    file.save(msgspec.structs.replace(file.load(), confirmed=5, delivered=5))
    file.set_aside({"seq": 3, "reason": "no"})
    return bundle.path


class Surroundings:
    """A copy of a run directory, with a folder beside it in which nothing may change."""

    def __init__(self, sound: Path, folder: Path) -> None:
        self.folder = folder
        self.run_dir = Path(shutil.copytree(sound, folder / "runs" / "run"))
        self.outside = folder / "outside"
        self.outside.mkdir()
        (self.outside / "precious").write_text("precious")

    def looked_at(self) -> None:
        """Reads the run as the commands do; it may be refused, in words."""
        try:
            bundle = Bundle(self.run_dir)
            owing(bundle)
            states(bundle)
            for entry in destinations(bundle):
                DestinationFile(bundle, entry).seqs_set_aside()
        except BundleError:
            pass  # in words, as `status` shows
        done = CliRunner().invoke(main, ["status", str(self.run_dir)])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        assert "Traceback" not in done.output

    def is_untouched(self) -> None:
        """Nothing was written beside the run directory."""
        assert sorted(path.name for path in self.folder.iterdir()) == ["outside", "runs"]
        assert [path.name for path in (self.folder / "runs").iterdir()] == ["run"]
        assert [path.name for path in self.outside.iterdir()] == ["precious"]
        assert (self.outside / "precious").read_text() == "precious"


@pytest.fixture
def surroundings(sound: Path, tmp_path: Path) -> Surroundings:
    return Surroundings(sound, tmp_path / "around")


def in_fresh(sound: Path, play: Callable[[Surroundings], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Surroundings(sound, Path(folder) / "around")
        play(made)
        made.is_untouched()


@slowly
@given(place=st.lists(st.integers(0, 30), min_size=0, max_size=4), value=json_values | paths)
def test_any_manifest_is_read_or_refused(sound: Path, place: list[int], value: Any) -> None:
    def play(made: Surroundings) -> None:
        file = made.run_dir / "run.json"
        file.write_text(json.dumps(changed(json.loads(file.read_text()), place, value)))
        made.looked_at()

    in_fresh(sound, play)


FILES = [
    "run.json",
    "writer.json",
    "rewinds.json",
    "sinks/added.json",
    "sinks/{key}.json",
    "sinks/{key}.rejected.jsonl",
]


@slowly
@given(name=st.sampled_from(FILES), data=st.binary(max_size=60) | json_values.map(lambda it: json.dumps(it).encode()))
@example(name="sinks/{key}.rejected.jsonl", data=b'{"seq": "x"}\n{"seq": 1e400}\n{"seq": []}\n\xff\n{"seq": 7}\n')
@example(name="sinks/{key}.rejected.jsonl", data=NESTED)
@example(name="sinks/{key}.json", data=NESTED)
@example(name="sinks/added.json", data=NESTED)
@example(name="writer.json", data=NESTED)
@example(name="rewinds.json", data=NESTED)
@example(name="run.json", data=NESTED)
def test_any_bytes_in_any_file_are_read_or_refused(sound: Path, name: str, data: bytes) -> None:
    def play(made: Surroundings) -> None:
        (key,) = {path.name.partition(".")[0] for path in (made.run_dir / "sinks").glob("*.rejected.jsonl")}
        (made.run_dir / name.format(key=key)).write_bytes(data)
        made.looked_at()

    in_fresh(sound, play)


def test_what_is_set_aside_is_read_line_by_line(surroundings: Surroundings) -> None:
    bundle = Bundle(surroundings.run_dir)
    (entry,) = destinations(bundle)
    file = DestinationFile(bundle, entry)
    file.rejected_path.write_bytes(b'{"seq": "x"}\n\xff\n[1]\n{"seq": 7}\n{"seq": 8')
    assert file.seqs_set_aside() == {7}


LINKS = ["run.json", "sinks", "journal", "writer.json", "writer.lock", "delivery.log", "media", "sinks/x.lock"]


@pytest.mark.parametrize("name", LINKS)
def test_links_that_lead_out_are_refused(surroundings: Surroundings, name: str) -> None:
    path = surroundings.run_dir / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    target = surroundings.outside / ("precious" if "." in name else "")
    path.symlink_to(target)
    with pytest.raises(BundleError, match="leads out of the run directory"):
        Bundle(surroundings.run_dir)
    done = CliRunner().invoke(main, ["sync", "--trust", str(surroundings.run_dir)])
    assert done.exit_code == 1, done.output
    surroundings.is_untouched()


def test_links_that_stay_inside_are_none_of_our_business(surroundings: Surroundings) -> None:
    (surroundings.run_dir / "sinks" / "latest").symlink_to(surroundings.run_dir / "journal")
    Bundle(surroundings.run_dir)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("name", ["run.json", "writer.json", "rewinds.json", "sinks/added.json"])
def test_a_pipe_in_a_file_s_place_is_not_waited_for(surroundings: Surroundings, name: str) -> None:
    (surroundings.run_dir / name).unlink(missing_ok=True)
    os.mkfifo(surroundings.run_dir / name)
    surroundings.looked_at()


def test_files_of_any_size_take_little_memory(surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    (key,) = {path.name.partition(".")[0] for path in (surroundings.run_dir / "sinks").glob("*.rejected.jsonl")}
    for name in FILES[1:]:
        path = surroundings.run_dir / name.format(key=key)
        path.touch()
        os.truncate(path, 1 << 40)  # with holes for all of it
        if name == "rewinds.json":  # with that alone the run is refused
            surroundings.looked_at()
            path.unlink()
    os.truncate(surroundings.run_dir / "sinks" / f"{key}.rejected.jsonl", 1 << 26)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    surroundings.looked_at()
    os.truncate(surroundings.run_dir / "run.json", 1 << 40)
    with pytest.raises(BundleError, match="more than"):
        Bundle(surroundings.run_dir)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 4 * kept.MOST_BYTES >> 10


HOSTILE_PATHS = [
    "../../outside/precious",
    "/etc/passwd",
    "..",
    "models/link",
    "models/folder",
    "models/pipe",
    "\x00",
    "a" * 999,
]


def test_no_record_gets_a_file_from_elsewhere_into_a_store(surroundings: Surroundings, tmp_path: Path) -> None:
    models = surroundings.run_dir / "models"
    (models / "folder").mkdir(parents=True)
    (models / "link").symlink_to(surroundings.outside / "precious")
    (models / "folder" / "inner").symlink_to(surroundings.outside / "precious")
    os.mkfifo(models / "pipe")
    writer = JournalWriter(surroundings.run_dir / "journal", "abcd1234")
    common: dict[str, Any] = {"name": "x", "metadata": {}, "aliases": [], "caption": None, "fps": 10, "facts": {}}
    for path in HOSTILE_PATHS:
        for kind in ("model", "artifact", "image", "video", "environment"):
            writer.append(kind, 1, {**common, "path": path})
    writer.append("end", None, {"status": "finished"})
    writer.close()
    store = tmp_path / "store"
    file = surroundings.run_dir / "run.json"
    manifest = json.loads(file.read_text())
    manifest["sinks"][0]["options"]["path"] = str(store)
    file.write_text(json.dumps(manifest))
    done = run_command(f"rl-logging sync --trust {surroundings.run_dir}", tmp_path, 60)
    assert "Traceback" not in done.stdout + done.stderr
    copied = [path.read_bytes() for path in store.with_name("store.files").rglob("*") if path.is_file()]
    assert not any(b"precious" in data or b"root:" in data for data in copied)
    kinds = [row["kind"] for row in FileStore(store).rows() if row["seq"]]
    assert kinds == ["metrics"] * 5, "what is sound is delivered, and nothing else"
    assert done.returncode == 3, "records were refused, which its exit code says"
    surroundings.is_untouched()
