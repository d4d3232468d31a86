"""``python -m tests.matrix [--check]``: writes, or checks, the docs' table of what each algorithm logs.

After a run of a part of the matrix, that part is checked, and nothing is written.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.matrix import report

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "metrics_by_algorithm.rst"


def main(arguments: list[str]) -> None:
    found = report.found()
    if not any(found.values()):
        sys.exit("nothing was kept: run 'make matrix' first")
    table = TABLE.read_text() if TABLE.exists() else ""
    listed = report.from_rst(table)
    missing = [
        f"{algorithm} ({framework})"
        for framework, algorithms in listed.items()
        for algorithm in algorithms
        if algorithm not in found[framework]
    ]
    if "--check" not in arguments:
        if missing:
            sys.exit(f"{TABLE.name} stays as it is: the matrix was run in part, without {', '.join(missing)}")
        TABLE.write_text(report.as_rst(found))
        return
    if missing:
        print(f"the matrix was run in part: {len(missing)} algorithms are not checked: {', '.join(missing)}")
    differ = [
        f"{algorithm} ({framework})"
        for framework, algorithms in found.items()
        for algorithm, names in algorithms.items()
        if listed.get(framework, {}).get(algorithm) != names
    ]
    if not missing and table != report.as_rst(found):
        differ = differ or ["its form"]
    if differ:
        sys.exit(
            f"{TABLE.name} is not what the matrix found of {', '.join(differ)}: run 'make matrix' and 'python -m "
            "tests.matrix', and look at the difference"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
