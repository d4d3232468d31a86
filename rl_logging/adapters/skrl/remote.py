"""What a tap logs through in a process that has no run: a connection to the one that has it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

from rl_logging.extraction import Interval, NameTable
from rl_logging.extraction.late import is_late
from rl_logging.extraction.on_device import is_on_cuda
from rl_logging.run.arriving import ArrivingRecords
from rl_logging.run.device_copies import DeviceCopies, may_wait_beside_captures
from rl_logging.run.late_records import awaited, fill

_LAST_WORDS_S: Final = 10.0

log = logging.getLogger("rl_logging")

Message = tuple[Any, ...]
"""What to call over there, and with which arguments."""


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
        self._line = _Line(connection, self.warn_once)
        self._interval = interval
        self._warned: set[str] = set()

    def pipeline(self, table: NameTable) -> RemotePipeline:
        """Returns the way to the pipeline of the agent that this one is a copy of; it has its names already."""
        return RemotePipeline(self._line, self._interval)

    def save_model(self, path: Any, **options: Any) -> None:
        """Has a checkpoint logged."""
        self._line.send(("model", path, options))

    def warn_once(self, key: str, message: str) -> None:
        """Shows a warning over there, or here where nobody listens any more; once per `key`."""
        if key in self._warned:
            return
        self._warned.add(key)
        try:
            self._line.send(("warning", key, message))
        except OSError:
            log.warning("%s", message)

    def add_config_defaults(self, values: Mapping[str, Any]) -> None:
        """Does nothing: the original was described."""

    def fetch(self, tensors: Sequence[Any], then: Callable[[list[Any]], None]) -> None:
        """See `rl_logging.ExperimentLogger.fetch`."""
        self._line.fetch(tensors, then)

    def set_clock(self, read: Any) -> None:
        """Does nothing: nobody asks for a step here."""

    def on_finish(self, callback: Any) -> None:
        """Does nothing: the process's end is the end."""

    def finish(self) -> None:
        """Waits, within bounds, for what is still on a device."""
        self._line.close(_LAST_WORDS_S)


class RemotePipeline:
    """A pipeline at the other end of a line. What is on a device is sent when it has arrived here.

    Args:
        line: To it.
        interval: How often it is emitted to.
    """

    def __init__(self, line: _Line, interval: Interval) -> None:
        self.interval = interval
        self._line = line
        self._records: list[tuple[str, Any, str | None]] = []

    def record(self, native: str, value: Any, how: str | None = None) -> None:
        """Takes a value into the window."""
        if is_on_cuda(value):
            value = value.detach().clone()  # there: whoever has it may write to it
        elif hasattr(value, "detach"):
            value = _array(value.detach().cpu())
        self._records.append((native, value, how))

    def emit(self, step: int, *, prefix: str, values: Mapping[str, float], own: Mapping[str, Any]) -> None:
        """Has the window logged, with what is given besides."""
        records, self._records = self._records, []
        figures, later = dict(own), _later(own)
        tensors = [value for _, value, _ in records if is_on_cuda(value)]

        def message(arrived: list[Any]) -> Message:
            window = iter(arrived)
            here = [(native, _array(next(window)) if is_on_cuda(it) else it, how) for native, it, how in records]
            fill(figures, later, [*window])
            return "emit", here, step, prefix, dict(values), figures

        self._line.tell([*tensors, *awaited(later)], message)

    def canonical(self, values: Mapping[str, Any], step: int) -> None:
        """Has the adapter's own figures logged."""
        figures, later = dict(values), _later(values)

        def message(arrived: list[Any]) -> Message:
            fill(figures, later, arrived)
            return "canonical", figures, step

        self._line.tell(awaited(later), message)


class _Line:
    """Sends messages in the order of the calls, with what they have on a device when that has arrived.

    Args:
        connection: To the other process.
        warn: Called with a key and a message where something does not arrive.
    """

    def __init__(self, connection: Connection, warn: Callable[[str, str], None]) -> None:
        self._connection = connection
        self._sending = threading.RLock()
        self._arriving = ArrivingRecords(DeviceCopies(), may_wait_beside_captures, warn)
        self._asks_a_device = False

    def send(self, message: Message) -> None:
        """Sends at once."""
        with self._sending:
            self._connection.send(message)

    def fetch(self, tensors: Sequence[Any], then: Callable[[list[Any]], None]) -> None:
        """Has `then` called with CUDA tensors once they are in the host's memory, in the order of these calls."""
        self._asks_a_device = True
        self._arriving.hold(tensors, then, whole=bool(tensors))

    def tell(self, tensors: Sequence[Any], message: Callable[[list[Any]], Message]) -> None:
        """Sends what `message` makes of the tensors, when they and all that was asked for before have arrived."""
        if tensors or self._asks_a_device:
            self.fetch(tensors, lambda arrived: self.send(message(arrived)))
            self._arriving.take()
        else:
            self.send(message([]))

    def close(self, timeout_s: float) -> None:
        """Waits, so long, for what is on its way."""
        self._arriving.close(timeout_s)


def _later(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if is_late(value)}


def _array(tensor: Any) -> Any:
    try:
        return tensor.numpy()
    except TypeError:  # bfloat16, which NumPy has not
        return tensor.float().numpy()
