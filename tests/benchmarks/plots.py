"""Draws what the benchmarks found: ``python -m tests.benchmarks.plots FILE`` takes what ``--json FILE`` has kept.

Writes ``docs/explanation/sync_memory.svg``: the memory of ``rl-logging sync`` while it delivers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt

from tests.benchmarks.rows import Row, from_json
from tests.benchmarks.sync import MOST_MB

FOLDER = Path(__file__).parents[2] / "docs" / "explanation"
# Without a date and with fixed ids, so that the same figures give the same file.
STYLE = {"svg.hashsalt": "rl_logging", "svg.fonttype": "none", "font.size": 9}


def main(files: Sequence[str]) -> None:
    groups: dict[str, list[Row]] = {}
    for file in files:
        groups |= from_json(json.loads(Path(file).read_text()))
    with plt.rc_context(STYLE):
        draw_memory(groups["sync"])


def draw_memory(rows: Sequence[Row]) -> None:
    """Draws one line a store: resident memory over the scalars that it has."""
    figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
    for row in rows:
        history = row.details.get("memory")
        if isinstance(history, list):
            delivered, resident_mb = zip(*[point for point in history if point[0]], strict=True)
            axes.plot(delivered, resident_mb, label=_store(row.details))
    axes.axhline(MOST_MB, color="grey", linestyle=":", label="promised at the most")
    axes.set(xlabel="scalars delivered", ylabel="MB", ylim=(0, None), title="memory of rl-logging sync")
    axes.legend()
    figure.savefig(FOLDER / "sync_memory.svg", metadata={"Date": None})
    plt.close(figure)


def _store(details: Mapping[str, object]) -> str:
    return str(details["store"])


if __name__ == "__main__":
    main(sys.argv[1:])
