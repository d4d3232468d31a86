"""Which records share one history row: adjacent metrics of one step, as a loop leaves that logs scalar by scalar."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from rl_logging.records import Metrics, Record
from rl_logging.sinks import Ledger
from rl_logging_wandb import values

MAX_ROW_VALUES: Final = 1000
"""A row is not made longer than this by merging; a single record may be."""


class Row(msgspec.Struct, frozen=True):
    """One row to be.

    It is stored under the `seq` of its last record: a store that has it has all of them, and one that has no row so
    high lacks at least the last.

    Attributes:
        records: What is in it, in order.
        values: Keys as they are stored, and their values.
    """

    records: tuple[Metrics, ...]
    values: dict[str, Any]

    @property
    def last(self) -> Metrics:
        """The record whose `seq` and time are the row's."""
        return self.records[-1]


def parts(records: Iterable[Record], is_stored: Callable[[Record], bool], ledger: Ledger) -> Iterator[Record | Row]:
    """Yields the records in order, metrics as rows.

    Metrics share a row if nothing lies between them, their step is the same and no key is there twice. Those that are
    stored already are yielded as they are and shared by no row: where rows ended before a crash says nothing about
    where they end now.

    Args:
        records: With rising `seq`.
        is_stored: Says whether the row that a metrics record belongs to is stored.
        ledger: Told of each name changed.
    """
    gathered: Row | None = None
    for record in records:
        if not isinstance(record, Metrics) or is_stored(record):
            if gathered is not None:
                yield gathered
                gathered = None
            yield record
            continue
        row = Row((record,), values.row(record.values, record.step, ledger))
        if gathered is not None and _fit(gathered, row):
            gathered = Row((*gathered.records, record), {**gathered.values, **row.values})
            continue
        if gathered is not None:
            yield gathered
        gathered = row
    if gathered is not None:
        yield gathered


def _fit(row: Row, other: Row) -> bool:
    # Records without a step are of no common moment.
    return (
        row.last.step is not None
        and row.last.step == other.last.step
        and len(row.values) + len(other.values) <= MAX_ROW_VALUES
        and row.values.keys() & other.values.keys() <= {values.STEP_METRIC}
    )
