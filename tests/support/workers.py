"""A worker that delivers to a store in memory, for the tests of delivery."""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import DestinationFile, DestinationState
from rl_logging.delivery import DestinationWorker
from rl_logging.testing.memory import MemoryStore
from tests.support.bundles import make_entry

ENTRY = make_entry()


class Told:
    def __init__(self) -> None:
        self.states: list[DestinationState] = []
        self.warnings: list[str] = []
        self.phases: list[str] = []
        self.change = threading.Condition()

    def state(self, state: DestinationState) -> None:
        with self.change:
            self.states.append(msgspec.structs.replace(state))
            self.phases.append(state.phase)
            self.change.notify_all()

    def wait_for_error(self, words: str) -> None:
        with self.change:
            assert self.change.wait_for(lambda: any(words in (it.last_error or "") for it in self.states), 60)

    def wait_for_phase(self, phase: str) -> None:
        with self.change:
            assert self.change.wait_for(lambda: phase in self.phases, 60), self.phases

    def wait_for_confirmed(self, seq: int) -> None:
        with self.change:
            assert self.change.wait_for(lambda: any(it.confirmed >= seq for it in self.states), 60)


def start(bundle: Bundle, store: MemoryStore, **options: Any) -> tuple[DestinationWorker, Told]:
    told = Told()
    worker = DestinationWorker(
        bundle,
        ENTRY,
        lambda context: store.make("memory", context, {}),
        tell=told.state,
        warn=told.warnings.append,
        **{"live": True, "patience_s": 5.0, **options},
    )
    worker.start()
    return worker, told


def finish(worker: DestinationWorker) -> DestinationState:
    worker.join(60)
    assert not worker.is_alive()
    return worker.book.state


def kept(bundle: Bundle) -> DestinationState:
    return DestinationFile(bundle, ENTRY).load()


def steps(store: MemoryStore) -> list[int | None]:
    return [step for _, step, _ in store.run().points]
