"""What there is not, and what there is instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from rl_logging.stores import StoreError

_LISTED = 20


class NoExperimentError(StoreError):
    """A store has no experiment of that name."""


class NoRunError(StoreError):
    """No run is as it was asked for."""


class NoMetricError(StoreError):
    """No run has logged that metric."""


class NoCheckpointError(StoreError):
    """A run has left no checkpoint that can be recognised."""


def near(name: str, known: Iterable[str]) -> str:
    """Returns what names there are, those like `name` first; to be put after a colon."""
    names = sorted(set(known))
    folded = {known.casefold(): known for known in names}
    alike = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)]
    if alike:
        return f"did you mean {' or '.join(map(repr, alike))}? It has {listed(names)}"
    return f"it has {listed(names)}"


def listed(names: Iterable[str]) -> str:
    """Returns the first of `names`, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return (", ".join(known[:_LISTED]) or "none") + more
