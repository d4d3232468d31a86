from __future__ import annotations

from rl_logging.bundle.destination import DestinationState
from rl_logging.delivery.cursor import Cursor, Outcome


def test_it_knows_how_much_is_not_settled() -> None:
    cursor = Cursor(DestinationState(sink="memory", destination="a test"))
    cursor.add(1, Outcome.HANDED, 20)
    cursor.add(2, Outcome.SKIPPED)
    cursor.add(3, Outcome.HANDED, 1000)
    assert (len(cursor), cursor.values) == (3, 1021)
    assert cursor.refuse({3}) == [3]
    assert cursor.settle(0) is False
    assert cursor.settle(1)
    assert (len(cursor), cursor.values) == (0, 0)
