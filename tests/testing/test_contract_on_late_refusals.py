"""The contract suite on a store that refuses after it has taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from rl_logging.records import Image
from rl_logging.sinks import SinkContext
from rl_logging.testing import MemoryStore, SinkContract, Stored
from tests.support.late_refusals import LateSink


class TestLateSink(SinkContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    @pytest.fixture
    def make_sink(self, store: MemoryStore) -> Callable[[SinkContext], LateSink]:
        return lambda context: LateSink(context, store)

    @pytest.fixture
    def stored(self, store: MemoryStore) -> Callable[[SinkContext, Mapping[str, Any]], Stored]:
        def read(context: SinkContext, state: Mapping[str, Any]) -> Stored:
            run = store.run(state["id"])
            return Stored(points=run.points, status=run.status)

        return read

    @pytest.fixture
    def poison(self, store: MemoryStore) -> Callable[[SinkContext], Image]:
        store.reject(lambda record: isinstance(record, Image) and record.name == "gone")
        return lambda context: Image(seq=1, time=0.0, step=1, name="gone", path="gone")
