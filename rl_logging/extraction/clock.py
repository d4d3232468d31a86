"""From the framework's steps to the run's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal


class Clock:
    """Gives the run's step for a framework's.

    Args:
        factor: How many of the run's steps one of the framework's is: the number of environments, or 1.
        on_step_reset: What happens when the framework's step goes back, as in a second training: ``continue`` goes on
            from where the run was, which is told; ``restart`` goes back too.
        initial_step: The run's step at the framework's step 0.
        warn: Called with (key, message).
    """

    def __init__(
        self,
        factor: int = 1,
        on_step_reset: Literal["continue", "restart"] = "continue",
        initial_step: int = 0,
        warn: Callable[[str, str], None] | None = None,
    ) -> None:
        self.factor = factor
        self._offset = initial_step
        self._continues = on_step_reset == "continue"
        self._warn = warn
        self._before: int | None = None
        self._now = initial_step

    @property
    def now(self) -> int:
        """The run's step that was asked for last."""
        return self._now

    def at(self, framework_step: int) -> int:
        """Returns the run's step; steps are asked for in the order they are taken."""
        before = self._before
        if before is not None and framework_step < before and self._continues:
            self._offset = self._now
            if self._warn is not None:
                self._warn(
                    "clock/step_reset",
                    f"the framework's step went back from {before} to {framework_step}: the run's clock goes on from "
                    f"{self._now} (rl_logging.on_step_reset: restart makes it go back too)",
                )
        self._before = framework_step
        self._now = self._offset + framework_step * self.factor
        return self._now
