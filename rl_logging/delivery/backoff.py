"""How long to wait before the next try."""

from __future__ import annotations

import random
from typing import Final

FIRST_S: Final = 0.5
CAP_S: Final = 30.0
AWAITED_CAP_S: Final = 1.0
"""Of the waits while somebody waits for the store."""


class Backoff:
    """Exponential backoff with jitter, from a random generator of its own.

    Args:
        first_s: Upper bound of the first wait.
        cap_s: Upper bound of every wait, unless the store asked for longer.
    """

    def __init__(self, first_s: float, cap_s: float) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._random = random.Random()  # the global generator is the user's
        self.attempts = 0

    def next_s(self, asked_s: float | None = None, *, awaited: bool = False) -> float:
        """Returns the seconds to wait after one more failure.

        Args:
            asked_s: How long at least, where the store named a time.
            awaited: Whether somebody waits for the store: then little, unless the store named a time.
        """
        ceiling = min(self._cap_s, self._first_s * 2.0 ** min(self.attempts, 16))
        if awaited:
            ceiling = min(ceiling, AWAITED_CAP_S)
        self.attempts += 1
        wait_s = ceiling * self._random.uniform(0.5, 1.0)
        return wait_s if asked_s is None else max(wait_s, min(asked_s, 10 * self._cap_s))

    def reset(self) -> None:
        """Something went well: the next failure waits little again."""
        self.attempts = 0
