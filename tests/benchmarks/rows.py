"""A row of the benchmarks' table: one figure, what it stands beside, and what it has to reach."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of ours.

    Attributes:
        name: What was measured.
        beside: What it was measured beside, in turns with it.
        goal: What it has to reach, in words; empty where it is shown for its own sake.
        figure: What it reached, in words.
        reached: Whether it did; None without a goal, and where it could not be measured here.
        details: The numbers behind it, their units in their names, as JSON values.
    """

    name: str
    beside: str = ""
    goal: str = ""
    figure: str
    reached: bool | None = None
    details: Mapping[str, object] = field(default_factory=dict)


def table(title: str, rows: Iterable[Row]) -> Table:
    """Returns the rows as people read them."""
    shown = Table("what", "beside", "goal", "figure", "reached", title=title)
    for row in rows:
        shown.add_row(row.name, row.beside, row.goal, row.figure, _WORDS[row.reached])
    return shown


def as_json(groups: Mapping[str, Iterable[Row]]) -> dict[str, object]:
    """Returns the rows of all groups, with the machine they were measured on."""
    return {
        "machine": {"python": platform.python_version(), "cpus": os.cpu_count(), "system": platform.platform()},
        "groups": {group: [asdict(row) for row in rows] for group, rows in groups.items()},
    }


def from_json(data: Mapping[str, object]) -> dict[str, list[Row]]:
    """Returns the groups of `as_json`."""
    groups = data["groups"]
    assert isinstance(groups, dict)
    return {group: [Row(**row) for row in rows] for group, rows in groups.items()}


def ratio_row(
    name: str, *, beside: str, goal: float, cpu: float, wall: float, more: str = "", **details: object
) -> Row:
    """Returns the row of a speed that is judged by its ratio to another one's in CPU time.

    Args:
        name: What was measured.
        beside: What it was measured beside.
        goal: The least ratio.
        cpu: The ratio by CPU time.
        wall: The ratio by the clock.
        more: What stands behind the two.
        **details: The numbers behind it.
    """
    return Row(
        name=name,
        beside=beside,
        goal=f"≥ {goal} of it",
        figure=f"{cpu:.2f} of it by CPU time, {wall:.2f} by the clock{more}",
        reached=cpu >= goal,
        details={"cpu_ratio": cpu, "wall_ratio": wall, **details},
    )


_WORDS = {True: "yes", False: "[bold red]NO[/]", None: ""}
