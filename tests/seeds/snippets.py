"""The code blocks of the reference documents, and programs made of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "documents"

_BLOCK = re.compile(r"^## (?P<name>[^\n]+)\n\n```(?P<language>\w+)\n(?P<code>.*?)^```$", flags=re.MULTILINE | re.DOTALL)


class Snippet(NamedTuple):
    """One code block as the document has it."""

    name: str
    language: str
    code: str

    def with_line(self, old: str, new: str) -> Snippet:
        """Returns it with one line changed; the line must be there."""
        lines = self.code.splitlines()
        assert lines.count(old) == 1, f"{self.name}: no line {old!r}"
        return self._replace(code="\n".join(new if line == old else line for line in lines) + "\n")


def snippets(document: str) -> dict[str, Snippet]:
    """Returns a document's code blocks by name."""
    text = (FOLDER / f"{document}.txt").read_text(encoding="utf-8")
    return {match["name"]: Snippet(match["name"], match["language"], match["code"]) for match in _BLOCK.finditer(text)}
