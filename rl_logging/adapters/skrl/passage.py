"""An attached agent's way to another process: what stands in place of its hooks there, and how it is logged from there.

skrl's ParallelTrainer trains each of several agents in a process of its own, and sends it there whole.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import util
from multiprocessing.connection import Client, Connection
from types import SimpleNamespace
from typing import Any, Final

from rl_logging.extraction import Interval, NameTable
from rl_logging.extraction.late import is_late
from rl_logging.run.late_records import waited_for

_PARALLEL: Final = "skrl.trainers.torch.parallel"

log = logging.getLogger("rl_logging")

Attach = Callable[["RemoteLogger", Any], Any]
"""Taps the agent that has arrived, for the logger there; returns the tap."""


class Passage:
    """What travels with an attached agent. A copy that arrives in no trainer's process is not logged.

    Args:
        address: Where the process that has the run listens.
        attach: Taps the agent over there.
        interval: How often it emits.
        settings: The settings that are asked for over there.
        env: What stands for the environment over there.
    """

    def __init__(
        self, address: Any, attach: Attach, *, interval: Interval, settings: Mapping[str, Any], env: Any
    ) -> None:
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
            tap = self._attach(logger, agent)
            # A process of multiprocessing's ends without atexit.
            util.Finalize(None, tap.detach, exitpriority=20)
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


class RemoteLogger:
    """What a tap needs of a logger, in a process that has none.

    Args:
        connection: To the process that has it.
        interval: How often the tap emits.
        settings: The settings that a tap asks for.
        env: What stands for the environment.
    """

    num_envs = None

    def __init__(self, connection: Connection, interval: Interval, settings: Any, env: Any) -> None:
        self.settings = settings
        self.env = env
        self._connection = connection
        self._interval = interval
        self._warned: set[str] = set()

    def pipeline(self, table: NameTable) -> RemotePipeline:
        """Returns the way to the pipeline of the agent that this one is a copy of; it has its names already."""
        return RemotePipeline(self._connection, self._interval)

    def save_model(self, path: Any, **options: Any) -> None:
        """Has a checkpoint logged."""
        self._connection.send(("model", path, options))

    def warn_once(self, key: str, message: str) -> None:
        """Shows a warning over there, or here where nobody listens any more; once per `key`."""
        if key in self._warned:
            return
        self._warned.add(key)
        try:
            self._connection.send(("warning", key, message))
        except OSError:
            log.warning("%s", message)

    def add_config_defaults(self, values: Mapping[str, Any]) -> None:
        """Does nothing: the original was described."""

    def fetch(self, tensors: Sequence[Any], then: Callable[[list[Any]], None]) -> None:
        """Waits for what is on a device: another process cannot."""
        then([tensor.cpu() for tensor in tensors])

    def set_clock(self, read: Any) -> None:
        """Does nothing: nobody asks for a step here."""

    def on_finish(self, callback: Any) -> None:
        """Does nothing: the process's end is the end."""


class RemotePipeline:
    """A pipeline at the other end of a connection. What is on a device is waited for here.

    Args:
        connection: To it.
        interval: How often it is emitted to.
    """

    def __init__(self, connection: Connection, interval: Interval) -> None:
        self.interval = interval
        self._connection = connection
        self._records: list[tuple[str, Any, str | None]] = []

    def record(self, native: str, value: Any, how: str | None = None) -> None:
        """Takes a value into the window."""
        self._records.append((native, value.detach().cpu().numpy() if hasattr(value, "detach") else value, how))

    def emit(self, step: int, *, prefix: str, values: Mapping[str, float], own: Mapping[str, Any]) -> None:
        """Has the window logged, with what is given besides."""
        records, self._records = self._records, []
        self._connection.send(("emit", records, step, prefix, dict(values), _here(own)))

    def canonical(self, values: Mapping[str, Any], step: int) -> None:
        """Has the adapter's own figures logged."""
        self._connection.send(("canonical", _here(values), step))


def _here(values: Mapping[str, Any]) -> dict[str, float]:
    return waited_for(dict(values), {name: value for name, value in values.items() if is_late(value)})
