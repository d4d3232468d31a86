"""The contract suite of rl_logging on our sink."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import rl_logging_jsonl
from rl_logging_jsonl.sink import JsonLinesSink

from rl_logging.hookspecs import Surroundings
from rl_logging.sinks import Sink, SinkContext
from rl_logging.testing import SinkContract, Stored, sample_context, sample_metrics


# begin contract
class TestJsonLinesSink(SinkContract):
    @pytest.fixture
    def make_sink(self, tmp_path: Path) -> Callable[[SinkContext], Sink]:
        options = {"folder": str(tmp_path / "store"), "files": True}
        return lambda context: rl_logging_jsonl.rl_logging_make_sink("jsonl", context, options)

    @pytest.fixture
    def stored(self) -> Callable[[SinkContext, Mapping[str, Any]], Stored]:
        return lambda context, state: read_back(Path(state["url"]))

    # end contract
    # begin outage
    @pytest.fixture
    def outage(self, tmp_path: Path) -> Callable[[], contextlib.AbstractContextManager[None]]:
        @contextlib.contextmanager
        def unmounted() -> Iterator[None]:
            """A file is where the folder should be."""
            store, away = tmp_path / "store", tmp_path / "away"
            store.mkdir(exist_ok=True)
            store.rename(away)
            store.touch()
            try:
                yield
            finally:
                store.unlink()
                away.rename(store)

        return unmounted


# end outage
# begin reader
def read_back(path: Path) -> Stored:
    """Reads a run without any help from the sink."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def bodies(kind: str) -> list[tuple[int, int | None, dict[str, Any]]]:
        return [(row["seq"], row["step"], row["body"]) for row in rows if row["kind"] == kind]

    def files_of(seq: int) -> dict[str, bytes]:
        folder = path.parent / "files" / str(seq)
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    def content(seq: int) -> bytes:
        return next(iter(files_of(seq).values()))

    def inside(seq: int) -> dict[str, bytes]:
        return {name.partition("/")[2] or name: data for name, data in files_of(seq).items()}

    config: dict[str, Any] = {}
    for _, _, values in bodies("config"):
        merge(config, values)
    return Stored(
        points=[(name, step, float(value)) for _, step, values in bodies("metrics") for name, value in values.items()],
        config=config,
        images=[(body["name"], step, content(seq)) for seq, step, body in bodies("image")],
        videos=[(body["name"], step, content(seq)) for seq, step, body in bodies("video")],
        models=[(body["name"], step, inside(seq), body["metadata"]) for seq, step, body in bodies("model")],
        artifacts=[(body["name"], step, inside(seq), body["metadata"]) for seq, step, body in bodies("artifact")],
        environment=[name for seq, _, _ in bodies("environment") for name in files_of(seq)],
        status=json.loads((path.parent / "run.json").read_text(encoding="utf-8"))["status"],
    )


def merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


# end reader
# begin options
def test_wrong_options_are_named() -> None:
    problems = rl_logging_jsonl.rl_logging_check_options("jsonl", {"foldr": "runs", "files": "yes"})
    assert problems == [
        "jsonl.foldr: there is no such option; known are folder, files",
        "jsonl.files: got 'yes', may be true or false",
    ]


def test_options_mean_the_same_elsewhere(tmp_path: Path) -> None:
    surroundings = Surroundings(project=None, cwd=tmp_path, environ={"RL_LOGGING_JSONL_FOLDER": "from_environment"})
    resolved = rl_logging_jsonl.rl_logging_resolve_options("jsonl", {"folder": "runs"}, surroundings)
    assert resolved == {"folder": str(tmp_path / "runs"), "files": True}
    assert rl_logging_jsonl.rl_logging_resolve_options("jsonl", resolved, surroundings) == resolved
    default = rl_logging_jsonl.rl_logging_resolve_options("jsonl", {}, surroundings)
    assert rl_logging_jsonl.rl_logging_destination("jsonl", default) == str(tmp_path / "from_environment")


# end options
# begin torn
def test_a_line_that_a_kill_left_unfinished_is_written_again(tmp_path: Path) -> None:
    context = sample_context(tmp_path / "run")
    records = sample_metrics(3)
    first = JsonLinesSink(context, tmp_path / "store")
    path = Path(first.open(None)["url"])
    first.write(records)
    first.close(None)
    path.write_bytes(path.read_bytes()[:-20])

    second = JsonLinesSink(context, tmp_path / "store")
    second.open(None)
    assert second.confirmed() == 2
    second.write(records)
    second.close("finished")
    assert read_back(path).series("train/loss") == [(10, 1.0), (20, 2.0), (30, 3.0)]


# end torn
