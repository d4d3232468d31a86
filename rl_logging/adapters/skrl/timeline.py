"""Where an agent stands on the run's clock: in a training, or in one of the evaluations between.

An evaluation takes none of the run's steps: all of it lies where the training stands.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

from rl_logging.adapters.skrl.finished import FinishedEpisodes
from rl_logging.adapters.skrl.late_episodes import LateEpisodes
from rl_logging.extraction.clock import Clock

_EVAL: Final = "eval/"
_moves = itertools.count(1)


class Phase:
    """Training, or one evaluation.

    Args:
        clock: Turns the steps of a training into the run's; None for an evaluation.

    Attributes:
        episodes: What has finished.
        told: What is told of it; it is known later than that where it is counted on a device.
    """

    def __init__(self, clock: Clock | None) -> None:
        self.clock = clock
        self.training = training = clock is not None
        self.prefix = "" if training else _EVAL
        self.episodes = FinishedEpisodes()
        self.told: FinishedEpisodes | LateEpisodes = self.episodes

    def expect(self, *, successes: bool) -> None:
        """Takes notice of episodes that may be added once they have arrived; see `LateEpisodes`."""
        if not isinstance(self.told, LateEpisodes):
            self.told = LateEpisodes(self.episodes)
        self.told.expect(successes=successes)


class Timeline:
    """Follows an agent's timesteps, which a trainer counts from 0 in each call of its ``train`` and ``eval``.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        begins_at: Returns where the run's clock starts; asked for anew until the training begins.
        num_envs: Environment steps in one step of the agent, over all processes; None while that is unknown.

    Attributes:
        moved: When it moved last, beside others' timelines: a larger number is later.
    """

    def __init__(self, logger: Any, *, begins_at: Callable[[], int], num_envs: int | None) -> None:
        self.num_envs = num_envs
        self.moved = 0
        self.phase: Phase | None = None
        self.timestep = -1
        self._logger = logger
        self._begins_at = begins_at
        self._trained: Phase | None = None
        self._now = 0

    @property
    def now(self) -> int:
        """The run's step."""
        return self._now if self.moved else self._begins_at()

    def at(self, steps: int) -> int:
        """Returns where a number of steps of the agent, mostly the present one, lies on the run's clock."""
        clock = self.phase.clock if self.phase is not None else None
        return self._now if clock is None else self._now + (steps - self.timestep - 1) * clock.factor

    def enter(self, timestep: int, *, training: bool) -> None:
        """Begins the phase that a timestep belongs to.

        The training is one phase, however often it is interrupted; each evaluation is one of its own.
        """
        if self._trained is None:
            self._now = self._begins_at()
        if training:
            if self._trained is None:
                self._trained = Phase(self._new_clock())
            self.phase = self._trained
        else:
            self.phase = Phase(None)
        self.timestep = timestep - 1

    def advance(self, timestep: int) -> None:
        """Takes one step of the agent."""
        assert self.phase is not None
        self.timestep = timestep
        self.moved = next(_moves)
        if self.phase.clock is not None:
            self._now = self.phase.clock.at(timestep + 1)

    def heard(self, step: int) -> None:
        """Takes the run's step from the agent's copy in another process."""
        self.moved = next(_moves)
        self._now = step

    def _new_clock(self) -> Clock:
        settings = self._logger.settings
        factor = 1
        if settings.clock != "framework":
            if self.num_envs is None:
                self._logger.warn_once(
                    "skrl/num_envs",
                    "it is not known on how many environments the agent is trained: its own steps are logged, not "
                    "environment steps; give num_envs to logger.attach",
                )
            factor = self.num_envs or 1
        return Clock(
            factor=factor,
            on_step_reset=settings.on_step_reset,
            initial_step=self._now,
            warn=self._logger.warn_once,
        )
