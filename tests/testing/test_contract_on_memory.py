"""The contract suite on the in-memory store, all optional fixtures given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from rl_logging.records import Artifact, Environment, Image, Labels, Metrics, Model, Record, Video
from rl_logging.sinks import SinkContext
from rl_logging.testing import MemorySink, MemoryStore, SinkContract, Stored


class TestMemorySink(SinkContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    @pytest.fixture
    def make_sink(self, store: MemoryStore) -> Callable[[SinkContext], MemorySink]:
        return lambda context: MemorySink(context, store)

    @pytest.fixture
    def stored(self, store: MemoryStore) -> Callable[[SinkContext, Mapping[str, Any]], Stored]:
        def read(context: SinkContext, state: Mapping[str, Any]) -> Stored:
            run = store.run(state["id"])

            def of(kind: type[Record]) -> list[Any]:
                return [record for record in run.records.values() if type(record) is kind]

            def files(kind: type[Record]) -> list[tuple[Any, ...]]:
                return [(record.name, record.step) for record in of(kind)]

            tags, notes = context.tags, context.notes
            for labels in of(Labels):
                tags = tags if labels.tags is None else labels.tags
                notes = notes if labels.notes is None else labels.notes
            return Stored(
                points=run.points,
                config=run.config,
                images=files(Image),
                videos=files(Video),
                models=[(model.name, model.step, None, model.metadata) for model in of(Model)],
                artifacts=files(Artifact),
                tags=tags,
                notes=notes,
                environment=[path for row in of(Environment) for path in (row.path, row.patch) if path],
                status=run.status,
            )

        return read

    @pytest.fixture
    def poison(self, store: MemoryStore) -> Callable[[SinkContext], Record]:
        store.reject(lambda record: isinstance(record, Metrics) and "poison" in record.values)
        return lambda context: Metrics(seq=1, time=0.0, step=1, values={"poison": 1.0})

    @pytest.fixture
    def outage(self, store: MemoryStore) -> Callable[[], contextlib.AbstractContextManager[None]]:
        @contextlib.contextmanager
        def down() -> Iterator[None]:
            store.fail_open(1000)
            store.fail_write(1000, after=3)
            try:
                yield
            finally:
                store.restore()

        return down
