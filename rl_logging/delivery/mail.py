"""What the delivery process is told: its training process's commands, and its end."""

from __future__ import annotations

import enum
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from rl_logging.messages import Command, command
from rl_logging.processes import wait_for_end

LAST_WORDS_S: Final = 1.0


class _Told(enum.Enum):
    GONE = enum.auto()
    HEARD_OUT = enum.auto()


class Mail:
    """Commands in the order in which they came, until the training process's end.

    Args:
        commands: The pipe from the training process.
        first: What it asked for when it started this process.
        trainer_pid: The training process.
        trainer_started: When that started (`rl_logging.processes.started_at`).
    """

    def __init__(self, commands: BinaryIO, first: Iterable[Command], trainer_pid: int, trainer_started: float) -> None:
        self._queue: queue.SimpleQueue[Command | _Told] = queue.SimpleQueue()
        for each in first:
            self._queue.put(each)
        threading.Thread(target=self._read, args=(commands,), daemon=True).start()
        threading.Thread(target=self._watch, args=(trainer_pid, trainer_started), daemon=True).start()

    def __iter__(self) -> Iterator[Command]:
        gone = heard_out = False
        while not (gone and heard_out):
            try:
                # What it said last may still be on its way through the pipe, which a forked worker may hold open.
                told = self._queue.get(timeout=LAST_WORDS_S if gone else None)
            except queue.Empty:
                return
            if told is _Told.GONE:
                gone = True
            elif told is _Told.HEARD_OUT:
                heard_out = True
            elif not isinstance(told, _Told):
                yield told

    def _read(self, commands: BinaryIO) -> None:
        for data in commands:
            self._queue.put(command(data))
        self._queue.put(_Told.HEARD_OUT)

    def _watch(self, pid: int, started: float) -> None:
        wait_for_end(pid, started)
        self._queue.put(_Told.GONE)
