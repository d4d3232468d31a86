"""File names for what people name freely."""

from __future__ import annotations

import hashlib
import re
from typing import Final

LENGTH_MOST: Final = 80

_RESERVED: Final = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))]
)
_OUTSIDE: Final = re.compile(r"[^A-Za-z0-9._-]+")


def slug(name: str) -> str:
    """Returns a file name made from `name`: ASCII letters, digits and ``._-``, 1 to 80 characters, safe everywhere.

    Distinct names may give the same slug; whoever makes files from it tells them apart by what follows it. A name
    with nothing to keep (``"奖励"``, ``".."``) becomes ``n-`` and a hash of it.
    """
    kept = _OUTSIDE.sub("-", name)[:LENGTH_MOST].strip("-. ")
    if not kept:
        return f"n-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    if kept.split(".")[0].lower() in _RESERVED:  # Windows takes "con.txt" for the console too
        return f"_{kept}"[:LENGTH_MOST].rstrip("-.")
    return kept
