"""Every figure that is promised, beside what people would otherwise use.

``python -m tests.benchmarks`` (or ``make bench``) measures all groups of rows, ``python -m tests.benchmarks GROUP...``
some of them; ``--json FILE`` keeps the figures. Each group is a module with a function ``rows(arguments)`` and runs in
a process of its own when there are several. A group by itself takes what further arguments it knows
(``python -m tests.benchmarks adapters --help``). Exit code 1 says that a goal was missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.benchmarks.rows import Row, as_json, from_json, table

GROUPS = {
    "caller": "one call in the caller's thread",
    "values": "one call, by what is logged",
    "frames": "pictures and videos in the caller's thread",
    "gpu": "CUDA values in the caller's thread",
    "footprint": "memory, and the time until the first call",
    "training": "a whole training, logged to two stores at once",
    "adapters": "a training with an adapter attached",
    "shares": "the share of a training that is spent in our code",
    "delivery": "delivery, beside the SDKs' own loops",
    "machine": "several runs at once on one machine",
    "sync": "a million scalars",
    "storage": "bytes on disk",
    "finish": "the end of a run",
}
"""The modules of this package that measure, in the order of their turns."""


def main(arguments: Sequence[str]) -> int:
    names = [name for name in arguments if name in GROUPS or name == "all"]
    if names and names[0] in GROUPS and len(names) == 1:
        file, rest = _json_file([argument for argument in arguments if argument != names[0]])
        rows = measure(names[0], rest)
        groups = {names[0]: rows}
    else:
        parser = argparse.ArgumentParser(
            prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("groups", nargs="*", choices=["all", *GROUPS], default="all", help="what to measure")
        parser.add_argument("--json", type=Path, help="file to write the figures to")
        options = parser.parse_args(arguments)
        wanted = GROUPS if "all" in options.groups else options.groups
        file = options.json
        groups = {name: measure_apart(name) for name in wanted}
        for name, rows in groups.items():
            Console(width=160).print(table(GROUPS[name], rows))
    if file is not None:
        file.write_text(json.dumps(as_json(groups), indent=2) + "\n")
    return int(any(row.reached is False for rows in groups.values() for row in rows))


def measure(group: str, arguments: Sequence[str]) -> list[Row]:
    """Measures one group in this process, and prints it."""
    rows: list[Row] = importlib.import_module(f"tests.benchmarks.{group}").rows(arguments)
    Console(width=160).print(table(GROUPS[group], rows))
    return rows


def measure_apart(group: str) -> list[Row]:
    """Measures one group in a process that nothing was imported in before."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.json")
        subprocess.run([sys.executable, "-m", "tests.benchmarks", group, "--json", str(file)], check=False)
        if not file.exists():
            return [Row(name=group, figure="failed: see above", reached=False)]
        return from_json(json.loads(file.read_text()))[group]


def _json_file(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json", type=Path)
    options, rest = parser.parse_known_args(arguments)
    return options.json, rest


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
