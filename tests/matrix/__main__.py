"""``python -m tests.matrix [--check]``: writes, or checks, the docs' table of what each algorithm logs."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.matrix import report

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "metrics_by_algorithm.rst"

found = report.found()
empty = [framework for framework, algorithms in found.items() if not algorithms]
if empty:
    sys.exit(f"nothing was kept of {', '.join(empty)}: run 'make matrix' first")
table = report.as_rst(found)
if "--check" not in sys.argv:
    TABLE.write_text(table)
elif not TABLE.exists() or TABLE.read_text() != table:
    sys.exit(f"{TABLE.name} is not what the matrix found: run 'python -m tests.matrix', and look at the difference")
