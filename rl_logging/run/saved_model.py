"""What saving a model gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec


class SavedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that was saved.

    Attributes:
        name: Its name.
        path: The folder that holds it.
        step: The step at which it was saved.
        metadata: What was given with it.
        aliases: What it is also called.
        seq: The seq of its record; None where it is kept in the run directory alone.
    """

    name: str
    path: Path
    step: int
    metadata: dict[str, Any] = {}
    aliases: tuple[str, ...] = ()
    seq: int | None = None
