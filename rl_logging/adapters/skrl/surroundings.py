"""What an agent does not know of: the trainer that trains it, and the environments it is trained on."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final, NamedTuple

from rl_logging.adapters.autoreset import resets_in_a_step

_CALLERS: Final = 3
_OURS: Final = "rl_logging.adapters."


class Surroundings(NamedTuple):
    """Where an agent is trained.

    Attributes:
        env: The environment, wrapped by skrl or not; None where it is not known.
        trainer: skrl's trainer, or what else has the environment; None for a loop without one.
    """

    env: Any = None
    trainer: Any = None

    @classmethod
    def of_source(cls, source: Any) -> Surroundings:
        """Returns what a Runner or trainer knows; nothing for an agent."""
        trainer = getattr(source, "trainer", source)
        env = getattr(trainer, "env", None)
        return cls(env, trainer) if env is not None else cls()

    @classmethod
    def of_caller(cls) -> Surroundings:
        """Returns what the training loop in whose call we are knows.

        It is looked for as ``self.env`` or ``env`` in the loop that hands the agent its transitions, and in a few
        callers of it.
        """
        frame: FrameType | None = sys._getframe(1)
        looked_at = 0
        while frame is not None and looked_at < _CALLERS:
            if not frame.f_globals.get("__name__", "").startswith(_OURS):
                looked_at += 1
                names = frame.f_locals
                owner = names.get("self")
                env = getattr(owner, "env", None)
                if env is not None and hasattr(env, "step"):
                    return cls(env, owner)
                if hasattr(names.get("env"), "step"):
                    return cls(names["env"], None)
            frame = frame.f_back
        return cls()

    @property
    def tracked_infos(self) -> str | None:
        """The group of the environments' infos whose tensors the trainer hands to the agent; None for none."""
        cfg = getattr(self.trainer, "cfg", None)
        if isinstance(cfg, Mapping):
            return str(getattr(self.trainer, "environment_info", cfg.get("environment_info", "episode")))
        return getattr(cfg, "environment_info", None)

    @property
    def resets_in_a_step(self) -> bool | None:
        """Whether the environment spends a step on resetting itself; None where it does not reset itself, or say."""
        return resets_in_a_step(self.env)
