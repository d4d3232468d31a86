"""The table of what became of a run under each fault."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from tests.faults.rows import Row
from tests.faults.stage import Outcome

STORE_TITLES = {"mlflow": "MLflow", "wandb": "W&B"}
HEADER = ("fault", "store", "loop", "longest call", "accepted", "in the store", "run", "exit code", "sync")

Results = Sequence[tuple[Row, str, Outcome | str]]
"""Each row with its store, and what came of it, or why it was not run."""


def as_rst(results: Results, baselines: Mapping[tuple[str, bool], Sequence[Outcome]]) -> str:
    """Returns the table.

    Args:
        results: What was measured.
        baselines: Runs without a fault, by store and whether they were several at once.
    """
    lines = [".. Made by ``python -m tests.faults``: do not edit.", "", *_noise(baselines), ""]
    lines += [".. csv-table::", "   :header-rows: 1", "   :widths: 30, 8, 7, 9, 9, 14, 9, 8, 7", ""]
    lines.append("   " + _csv(HEADER))
    for row, store, outcome in results:
        lines.append("   " + _csv(_cells(row, store, outcome, baselines)))
    return "\n".join(lines) + "\n"


def _cells(
    row: Row, store: str, outcome: Outcome | str, baselines: Mapping[tuple[str, bool], Sequence[Outcome]]
) -> tuple[str, ...]:
    begin = (row.title, STORE_TITLES[store])
    if isinstance(outcome, str):
        return (*begin, "", "", "", f"not run: {outcome}", "", "", "")
    usual_s = statistics.median(it.per_call_s for it in baselines[store, row.crowd])
    stored = f"{outcome.stored:,}"
    if outcome.rejected:
        stored += f", {outcome.rejected:,} refused and told"
    if outcome.lost:
        stored += f"; {outcome.lost:,} lost and told"
    return (
        *begin,
        f"{outcome.per_call_s / usual_s:.2f}",
        f"{outcome.longest_s * 1000:.1f} ms",
        f"{outcome.accepted:,}",
        stored,
        outcome.status or "none",
        "" if outcome.exit_code is None else str(outcome.exit_code),
        "" if outcome.sync_code is None else str(outcome.sync_code),
    )


def _noise(baselines: Mapping[tuple[str, bool], Sequence[Outcome]]) -> list[str]:
    words = []
    for (store, crowd), outcomes in baselines.items():
        times = [it.per_call_s for it in outcomes]
        usual_s = statistics.median(times)
        which = f"{STORE_TITLES[store]}, {'several at once' if crowd else 'one training'}"
        spread = f"{min(times) / usual_s:.2f} to {max(times) / usual_s:.2f}"
        longest = max(it.longest_s for it in outcomes) * 1000
        words.append(
            f"* {which}: {usual_s * 1000:.2f} ms a round; {spread} from run to run; longest call {longest:.1f} ms"
        )
    return ["Without a fault:", "", *words]


def _csv(cells: Sequence[str]) -> str:
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
