"""An attached agent's way to another process: what stands in place of its hooks there, and how it is logged from there.

skrl's ParallelTrainer trains each of several agents in a process of its own, and sends it there whole.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing import util
from multiprocessing.connection import Client
from types import SimpleNamespace
from typing import Any, Final

from rl_logging.adapters.skrl.remote import RemoteLogger
from rl_logging.extraction import Interval

_PARALLEL: Final = "skrl.trainers.torch.parallel"

log = logging.getLogger("rl_logging")

Attach = Callable[..., Any]
"""Called with the logger there, the agent that has arrived, and its ``initial_step``; returns the tap."""


class Passage:
    """What travels with an attached agent. A copy that arrives in no trainer's process is not logged.

    Args:
        address: Where the process that has the run listens.
        attach: Taps the agent over there.
        begins_at: Where the run's clock stands.
        interval: How often it emits.
        settings: The settings that are asked for over there.
        env: What stands for the environment over there.
    """

    def __init__(
        self,
        address: Any,
        attach: Attach,
        *,
        begins_at: int,
        interval: Interval,
        settings: Mapping[str, Any],
        env: Any,
    ) -> None:
        self.begins_at = begins_at
        self._address = address
        self._attach = attach
        self._interval = interval
        self._settings = dict(settings)
        self._env = env
        self._home = os.getpid()
        self._tried = False

    def arrive(self, agent: Any, caller: str) -> bool:
        """Has `agent` tapped, once, where skrl's trainer calls it in another process; returns whether that was now.

        Args:
            agent: The copy, whole.
            caller: Name of the calling module.
        """
        if self._tried or os.getpid() == self._home:
            return False
        self._tried = True
        if caller != _PARALLEL:
            return False
        try:
            connection = Client(self._address, authkey=multiprocessing.current_process().authkey)
            logger = RemoteLogger(connection, self._interval, SimpleNamespace(**self._settings), self._env)
            tap = self._attach(logger, agent, initial_step=self.begins_at)
            # A process of multiprocessing's ends without atexit; what has the higher number comes first.
            util.Finalize(None, tap.detach, exitpriority=20)
            util.Finalize(None, logger.finish, exitpriority=19)
        except Exception as error:
            log.warning("the agent is not logged from this process: %r; it is trained all the same", error)
            return False
        return True


class StandIn:
    """A method of the copy's class, in the place where the original has a hook.

    It is bound late, since it is unpickled before the copy is whole.

    Args:
        target: The copy.
        name: The method's name.
        passage: What travelled with it; None for nothing.
    """

    def __init__(self, target: Any, name: str, passage: Passage | None) -> None:
        self._target = target
        self._name = name
        self._passage = passage

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the method; the first call by a trainer lets the passage end."""
        if self._passage is not None:
            passage, self._passage = self._passage, None
            if passage.arrive(self._target, sys._getframe(1).f_globals.get("__name__", "")):
                return vars(self._target)[self._name](*args, **kwargs)  # the hook that stands here now
        return getattr(type(self._target), self._name)(self._target, *args, **kwargs)
