"""What the delivery process tells its training process, said by a thread of its own.

Nobody may be listening: the training process is gone, and a worker it has forked keeps the pipe open. Then the pipe
fills up, and only this thread waits for it. Of a destination's states, and of a run's samples of the machine, only the
latest is kept to be said.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from typing import BinaryIO

from rl_logging.messages import Changed, Event, Sampled, line


class Outbox:
    """Events on their way to the training process.

    Args:
        stream: The pipe.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._change = threading.Condition()
        self._waiting: dict[object, bytes] = {}
        self._numbers = itertools.count()
        self._speaking = False
        threading.Thread(target=self._speak, name="rl_logging-speak", daemon=True).start()

    def put(self, event: Event) -> None:
        """Says `event` soon."""
        data = line(event)
        with self._change:
            key: object = next(self._numbers)
            if isinstance(event, Changed):
                key = (event.run_dir, event.key)
            elif isinstance(event, Sampled):
                key = (event.run_dir, Sampled)
            self._waiting.pop(key, None)
            self._waiting[key] = data
            self._change.notify_all()

    def flush(self, timeout_s: float) -> None:
        """Waits until everything is said, or for `timeout_s`."""
        with self._change:
            self._change.wait_for(lambda: not self._waiting and not self._speaking, timeout_s)

    def _speak(self) -> None:
        while True:
            with self._change:
                self._speaking = False
                self._change.notify_all()
                self._change.wait_for(lambda: bool(self._waiting))
                data = self._waiting.pop(next(iter(self._waiting)))
                self._speaking = True
            # Where the training process is gone, the state is in the run directory anyway.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(data)
                self._stream.flush()
