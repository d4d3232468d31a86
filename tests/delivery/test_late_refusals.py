from __future__ import annotations

import json
from pathlib import Path

from rl_logging.bundle.destination import DestinationFile, DestinationState
from rl_logging.delivery import DestinationWorker
from rl_logging.delivery.cursor import Cursor, Outcome
from rl_logging.records import Metrics
from rl_logging.testing import MemoryStore
from tests.support.bundles import fill, make_bundle, make_entry
from tests.support.late_refusals import LateSink

ENTRY = make_entry()


def test_what_is_refused_after_it_was_handed_over_is_set_aside_and_holds_nothing_up(tmp_path: Path) -> None:
    bundle, store, warnings = make_bundle(tmp_path, ENTRY), MemoryStore(), []
    fill(bundle, 20)
    store.reject(lambda record: isinstance(record, Metrics) and record.seq in (5, 20))
    worker = DestinationWorker(
        bundle,
        ENTRY,
        lambda context: LateSink(context, store),
        live=False,
        tell=lambda state: None,
        warn=warnings.append,
        patience_s=5.0,
    )
    worker.start()
    worker.join(60)

    state = worker.book.state
    assert not worker.is_alive()
    assert (state.phase, state.confirmed, state.delivered, state.rejected) == ("done", 21, 19, 2)
    rows = [json.loads(line) for line in DestinationFile(bundle, ENTRY).rejected_path.read_text().splitlines()]
    assert [(row["seq"], row["reason"]) for row in rows] == [(5, "quota exceeded"), (20, "quota exceeded")]
    assert len(warnings) == 1
    assert "seq 5" in warnings[0]


def test_only_what_waits_for_the_store_can_be_refused_late() -> None:
    cursor = Cursor(DestinationState(sink="s", destination="d"))
    for seq, outcome in ((1, Outcome.HANDED), (2, Outcome.HANDED), (3, Outcome.SKIPPED), (4, Outcome.HANDED)):
        cursor.add(seq, outcome)
    cursor.settle(1)

    assert cursor.refuse({1, 3, 4, 9}) == [4]
    assert cursor.awaits_the_store
    assert cursor.settle(2)
    assert len(cursor) == 0
