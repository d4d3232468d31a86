"""How often adapters emit: the setting ``interval``."""

from __future__ import annotations

import dataclasses
import operator
from typing import Final, Literal

Kind = Literal["framework", "rollout", "steps"]

BALANCED: Final = 10
WORDS: Final = ("framework", "step", "balanced", "rollout")


@dataclasses.dataclass(frozen=True)
class Interval:
    """How often an adapter emits.

    Attributes:
        kind: ``framework``: when the framework itself writes; ``rollout``: after each of the agent's rollouts;
            ``steps``: every so many of the framework's own steps.
        every: How many of them; None unless `kind` is ``steps``.
    """

    kind: Kind
    every: int | None = None

    @classmethod
    def parse(cls, value: str | int) -> Interval:
        """Returns the interval that `value` means.

        Args:
            value: ``framework``, ``step`` (1), ``balanced`` (10), ``rollout``, or a number of steps, also as text;
                case and blanks do not matter.

        Raises:
            ValueError: It is none of these.
        """
        if isinstance(value, str):
            word = value.strip().lower()
            if word == "framework":
                return cls("framework")
            if word == "rollout":
                return cls("rollout")
            number = {"step": 1, "balanced": BALANCED}.get(word, 0)
            if word.isascii() and word.isdigit():
                number = int(word)
        else:
            try:
                number = 0 if isinstance(value, bool) else operator.index(value)
            except TypeError:
                number = 0
        if number >= 1:
            return cls("steps", number)
        raise ValueError(f"interval: {value!r} is not one of {', '.join(WORDS)}, or a number of steps of 1 or more")

    def due(self, steps: int) -> bool:
        """Returns whether an adapter that counts emits after `steps` of the framework's own steps."""
        return self.every is not None and steps % self.every == 0
