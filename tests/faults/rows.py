"""The rows of the table: one function a fault, which makes it happen and says what came of it.

A row that says "in the training's time" shows the order of events, not durations: all of the loop that follows runs
while a request of delivery's is known to have met the fault, and the fault is still there when the loop has ended.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.stage import Outcome, Stage

BOTH = ("mlflow", "wandb")


Play = Callable[[Stage], Outcome]


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        title: What happens, for the table.
        play: Makes it happen.
        stores: Where it makes sense.
        exit_code: What the training ends with; None where nobody can tell.
        status: What the store calls the run at the end.
        synced: Whether ``rl-logging sync`` is needed.
        crowd: Whether it is several trainings at once.
    """

    title: str
    play: Play
    stores: tuple[str, ...] = BOTH
    exit_code: int | None = 0
    status: str = "finished"
    synced: bool = False
    crowd: bool = False

    @property
    def name(self) -> str:
        """Its function's name."""
        return self.play.__name__

    def verify(self, outcome: Outcome) -> None:
        """Does nothing where everything is as promised.

        Raises:
            AssertionError: It is not.
        """
        outcome.tell()
        assert outcome.calls <= outcome.accepted + outcome.lost, outcome
        assert outcome.stored + outcome.rejected == outcome.accepted, outcome
        assert outcome.doubled == 0, outcome
        assert outcome.status == self.status, outcome
        assert outcome.exit_code == self.exit_code, outcome
        assert outcome.sync_code == (0 if self.synced else None), outcome


ROWS: list[Row] = []
MODULES = ("tests.faults.store_rows", "tests.faults.ending_rows", "tests.faults.place_rows")


def row(title: str, **more: object) -> Callable[[Play], Play]:
    """Adds a function to the table."""

    def add(play: Play) -> Play:
        ROWS.append(Row(title, play, **more))  # type: ignore[arg-type]
        return play

    return add


def rows_for(store: str) -> list[Row]:
    """Returns the rows that make sense for a store."""
    return [it for it in all_rows() if store in it.stores]


def all_rows() -> list[Row]:
    """Returns every row, in the table's order."""
    for module in MODULES:
        importlib.import_module(module)
    return sorted(ROWS, key=lambda it: MODULES.index(it.play.__module__))
