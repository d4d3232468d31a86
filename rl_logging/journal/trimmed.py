"""What is said of a journal whose first segments were deleted, because every destination has them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from rl_logging.kept import read_kept

TRIMMED: Final = "trimmed.json"


class Trimmed(msgspec.Struct, kw_only=True, frozen=True):
    """What is no longer in a journal.

    Attributes:
        seq: The last record that was deleted.
        segment: The number of the last segment that was.
        step: The highest step that counted among the deleted; -1 for none.
    """

    seq: int
    segment: int
    step: int


def read_trimmed(folder: Path) -> Trimmed | None:
    """Returns what was deleted from the journal in `folder`; None for nothing, or where that cannot be read."""
    try:
        return msgspec.json.decode(read_kept(folder / TRIMMED), type=Trimmed)
    except (OSError, msgspec.DecodeError, RecursionError):
        return None
