"""The environments' own figures, as far as skrl drops them."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping
from typing import Final

_GROUPS: Final = ("log", "episode")
_RECORDED_STATISTICS: Final = frozenset({"r", "l", "t"})


class EnvironmentFigures:
    """Finds plain numbers in what environments hand out beside their observations.

    skrl's trainers track the one-element tensors below ``infos["log"]`` (Isaac Lab) or ``infos["episode"]``, and drop
    what is a number already. Isaac Lab hands the same mapping out until an environment was reset, so a mapping counts
    when it is another one. Gymnasium's own episode statistics are left out: they are counted here anyway.
    """

    def __init__(self) -> None:
        self._last: dict[str, object] = {}

    def new(self, infos: object) -> Iterator[tuple[str, float]]:
        """Yields (tag, value) of each figure that was not yielded before, under the tag skrl would give it."""
        if not isinstance(infos, Mapping):
            return
        for group in _GROUPS:
            figures = infos.get(group)
            if figures is None or figures is self._last.get(group):
                continue
            self._last[group] = figures
            if not isinstance(figures, Mapping) or _RECORDED_STATISTICS.issuperset(figures):
                continue
            for key, value in figures.items():
                if isinstance(value, numbers.Real):
                    yield (key if "/" in key else f"Info / {key}"), float(value)
