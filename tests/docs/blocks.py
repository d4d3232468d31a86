"""The code blocks of the README and the documentation."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
README = ROOT / "README.rst"
DOCS = ROOT / "docs"

_DIRECTIVE = re.compile(r"^(?P<indent> *)\.\. code-block:: (?P<language>\S+)$")
_NAME = re.compile(r"^ *:name: (?P<name>\S+)$")


class Block(NamedTuple):
    """One ``code-block``; `name` is its ``:name:``, by which a test knows it."""

    path: Path
    line: int
    language: str
    name: str | None
    code: str

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    return [README, *sorted(path for path in DOCS.rglob("*.rst") if "_build" not in path.parts)]


def blocks(language: str) -> list[Block]:
    return [block for path in pages() for block in _blocks(path) if block.language == language]


def _blocks(path: Path) -> list[Block]:
    lines = path.read_text(encoding="utf-8").splitlines()
    found = []
    for number, line in enumerate(lines):
        start = _DIRECTIVE.match(line)
        if start is None:
            continue
        indent = len(start["indent"])
        body = []
        for inner in lines[number + 1 :]:
            if inner.strip() and len(inner) - len(inner.lstrip()) <= indent:
                break
            body.append(inner)
        name = None
        while body and body[0].strip():
            option = _NAME.match(body.pop(0))
            name = option["name"] if option is not None else name
        found.append(Block(path, number + 1, start["language"], name, textwrap.dedent("\n".join(body)).strip() + "\n"))
    return found
