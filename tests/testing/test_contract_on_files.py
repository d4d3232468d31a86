"""The contract suite on the store in a file, read back line by line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rl_logging.sinks import SinkContext
from rl_logging.testing import FileSink, FileStore, SinkContract, Stored


class TestFileSink(SinkContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "store.jsonl"

    @pytest.fixture
    def make_sink(self, path: Path) -> Callable[[SinkContext], FileSink]:
        return lambda context: FileSink(context, path, down_while=path.with_name("down"))

    @pytest.fixture
    def stored(self, path: Path) -> Callable[[SinkContext, Mapping[str, Any]], Stored]:
        def read(context: SinkContext, state: Mapping[str, Any]) -> Stored:
            store = FileStore(path)
            run_id = state["id"]
            rows = store.rows(run_id)

            def of(kind: str) -> list[dict[str, Any]]:
                return [row for row in rows if row["kind"] == kind]

            def kept(row: dict[str, Any]) -> Path:
                (path,) = store.folder_of(run_id, row["seq"]).iterdir()
                return path

            def files(kind: str) -> list[tuple[Any, ...]]:
                return [(row["body"]["name"], row["step"], kept(row).read_bytes()) for row in of(kind)]

            def folders(kind: str) -> list[tuple[Any, ...]]:
                return [
                    (row["body"]["name"], row["step"], contents(kept(row)), row["body"]["metadata"]) for row in of(kind)
                ]

            return Stored(
                points=store.points(run_id),
                config=store.config(run_id),
                images=files("image"),
                videos=files("video"),
                models=folders("model"),
                artifacts=folders("artifact"),
                environment=[
                    path.name for row in of("environment") for path in store.folder_of(run_id, row["seq"]).iterdir()
                ],
                status=store.status(run_id),
            )

        return read

    @pytest.fixture
    def outage(self, path: Path) -> Callable[[], contextlib.AbstractContextManager[None]]:
        @contextlib.contextmanager
        def down() -> Iterator[None]:
            path.with_name("down").touch()
            try:
                yield
            finally:
                path.with_name("down").unlink()

        return down


def contents(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {path.name: path.read_bytes()}
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
