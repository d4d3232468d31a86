"""What the matrix found: which algorithm logs which metrics, kept as files so that several test processes can add."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[2] / ".cache" / "matrix"
FRAMEWORKS: Final = ("stable-baselines3", "SKRL 2", "SKRL 1.4.3")

Found = Mapping[str, Mapping[str, frozenset[str]]]
"""Each framework's algorithms, and the names that each of them logs."""


def keep(framework: str, algorithm: str, names: Iterable[str]) -> None:
    """Keeps what a training of `algorithm` has logged, at the default settings.

    Args:
        framework: One of `FRAMEWORKS`.
        algorithm: Its name as the framework's documentation writes it.
        names: The names in the run.
    """
    assert framework in FRAMEWORKS
    folder = FOLDER / framework
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{algorithm}.json").write_text(json.dumps(sorted(set(names))))


def found() -> Found:
    """Returns what was kept."""
    return {
        framework: {
            path.stem: frozenset(json.loads(path.read_text())) for path in sorted((FOLDER / framework).glob("*.json"))
        }
        for framework in FRAMEWORKS
    }


def as_rst(found: Found) -> str:
    """Returns one table a framework: each metric, and the algorithms that log it."""
    parts = [".. Made by ``make matrix`` and ``python -m tests.matrix``; not to be edited.", ""]
    for framework, algorithms in found.items():
        parts += [framework, "^" * len(framework), ""]
        parts += [f"{len(algorithms)} algorithms: {', '.join(algorithms)}.", ""]
        parts += [
            ".. list-table::",
            "   :header-rows: 1",
            "   :widths: 35 65",
            "",
            "   * - In the run",
            "     - Logged by",
        ]
        for name in sorted(set().union(*algorithms.values())):
            having = [algorithm for algorithm, names in algorithms.items() if name in names]
            missing = [algorithm for algorithm in algorithms if algorithm not in having]
            if not missing:
                told = "all"
            elif len(missing) <= 3 < len(having):
                told = f"all but {', '.join(missing)}"
            else:
                told = ", ".join(having)
            parts += [f"   * - ``{name}``", f"     - {told}"]
        parts.append("")
    return "\n".join(parts)


def from_rst(text: str) -> Found:
    """Returns what the tables of `as_rst` say."""
    read: dict[str, dict[str, frozenset[str]]] = {}
    for part in re.split(rf"^(?=(?:{'|'.join(map(re.escape, FRAMEWORKS))})\n\^+$)", text, flags=re.MULTILINE)[1:]:
        framework = part.partition("\n")[0]
        algorithms = _words(re.search(r"^\d+ algorithms: (.*)\.$", part, flags=re.MULTILINE)[1])
        logged: dict[str, set[str]] = {algorithm: set() for algorithm in algorithms}
        for name, told in re.findall(r"^   \* - ``(.+)``\n     - (.+)$", part, flags=re.MULTILINE):
            but = _words(told.removeprefix("all").removeprefix(" but "))
            for algorithm in [it for it in algorithms if it not in but] if told.startswith("all") else but:
                logged[algorithm].add(name)
        read[framework] = {algorithm: frozenset(names) for algorithm, names in logged.items()}
    return read


def _words(text: str) -> list[str]:
    return [word for word in text.split(", ") if word]
