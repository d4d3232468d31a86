"""``python -m tests.faults [NAME...]``: runs the rows one after the other, and writes the docs' table of them.

``python -m tests.faults million`` is a run of a million scalars, see `tests.faults.million`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from tests.faults import million, report
from tests.faults.place_rows import crowd_apart
from tests.faults.rows import Play, Row, all_rows
from tests.faults.stage import Outcome, Stage
from tests.faults.store_rows import no_fault
from tests.faults.stores import Stores

TABLE = Path(__file__).parents[2] / "docs" / "explanation" / "faults_table.rst"
BASELINES = 5
CROWDS = 2


def main(names: list[str]) -> int:
    """Returns the exit code: 1 where a row is not as promised."""
    if names == ["million"]:
        return million.main()
    rows = [row for row in all_rows() if not names or row.name in names]
    results: list[tuple[Row, str, Outcome | str]] = []
    baselines: dict[tuple[str, bool], list[Outcome]] = {}
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        stores = Stores(folder / "shared")
        try:
            for store in ("mlflow", "wandb"):
                baselines[store, False] = [_play(stores, folder, store, no_fault) for _ in range(BASELINES)]
                if any(row.crowd for row in rows):
                    baselines[store, True] = [_play(stores, folder, store, crowd_apart) for _ in range(CROWDS)]
            for row in rows:
                for store in row.stores:
                    try:
                        outcome: Outcome | str = _play(stores, folder, store, row.play)
                        assert isinstance(outcome, Outcome)
                        row.verify(outcome)
                    except pytest.skip.Exception as skipped:
                        outcome = str(skipped)
                    except (AssertionError, TimeoutError) as error:
                        wrong += 1
                        print(f"{row.name} {store}: {error}", file=sys.stderr)
                        continue
                    results.append((row, store, outcome))
                    print(f"{row.name} {store}: {outcome}", flush=True)
        finally:
            stores.close()
    if wrong == 0 and not names:
        TABLE.write_text(report.as_rst(results, baselines))
    else:
        print(report.as_rst(results, baselines))
    return 1 if wrong else 0


_played = 0


def _play(stores: Stores, folder: Path, store: str, play: Play) -> Outcome:
    global _played
    _played += 1
    with Stage(folder / str(_played), stores, store) as stage:
        return play(stage)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
