"""A small training, run as a process of its own: it logs, a little work between, and does what it is told.

Orders come as JSON lines on standard input; each is answered with a JSON line on standard output. Only the loop itself
is timed, so that the time in which a fault is put does not count.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

from rl_logging import ExperimentLogger

KEYS = 10
WORK = 50_000

METER = struct.Struct("<qqdd")


class Training:
    """The loop, and what can be asked of it.

    Args:
        job: What the test wants: ``config`` for `ExperimentLogger`, and ``meter``, a file that the test reads: how many
            calls have returned, how many of them were timed, how long the loop took for those, and their longest.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        with open(job["meter"], "r+b") as file:
            # Shared memory: what stands there survives SIGKILL.
            self._meter = mmap.mmap(file.fileno(), METER.size)
        self._step = self._timed = 0
        self._loop_s = self._longest_s = 0.0
        self.logger = ExperimentLogger(job["config"])

    def log(self, count: int) -> None:
        """Goes through the loop `count` times."""
        began = time.perf_counter()
        before_s = self._loop_s
        for _ in range(count):
            work()
            values = {f"metric {number}": float(self._step * KEYS + number) for number in range(KEYS)}
            called = time.perf_counter()
            self.logger.log_metrics(values, step=self._step)
            returned = time.perf_counter()
            self._step += 1
            self._timed += 1
            self._longest_s = max(self._longest_s, returned - called)
            self._loop_s = before_s + returned - began
            self._meter[:] = METER.pack(self._step, self._timed, self._loop_s, self._longest_s)

    def obey(self, order: dict[str, Any]) -> dict[str, Any] | None:
        """Does one thing, and says what there is to say; None where the test asked to be told nothing."""
        what, value = next(iter(order.items()))
        if what == "log":
            self.log(value)
        elif what == "time anew":
            self._timed, self._loop_s, self._longest_s = 0, 0.0, 0.0
        elif what == "log until accepted":
            before = self.logger.accepted
            while self.logger.accepted == before:
                self.log(1)
        elif what == "log on":
            while True:
                self.log(1)
        elif what == "metrics":
            self.logger.log_metrics(value, step=order["step"])
        elif what == "image":
            self.logger.log_image(value, [[0.0, 1.0], [1.0, 0.0]], step=self._step)
        elif what == "flush":
            return {"flushed": self.logger.flush(value)}
        elif what == "fork":
            return {"exit_codes": [self._fork(count) for count in value]}
        elif what == "fill":
            return {"filled": fill(Path(value))}
        elif what == "free":
            os.unlink(value)
        elif what == "finish":
            self.logger.finish()
            return {"accepted": self.logger.accepted}
        elif what == "raise":
            raise RuntimeError(value)
        elif what == "_exit":
            os._exit(value)
        elif what == "exit":
            sys.exit(value)
        return {}

    def _fork(self, count: int) -> int:
        """A forked child uses the logger as a worker of a vectorised environment might; returns its exit code."""
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(count):
                    self.logger.log_metrics({"of a child": 1.0}, step=self._step)
                self.logger.flush(1)
                self.logger.finish()
            except BaseException:
                os._exit(1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def work() -> int:
    """What a training does between two calls."""
    total = 0
    for number in range(WORK):
        total += number * number
    return total


def fill(path: Path) -> int:
    """Takes what is left of the disk that `path` is on; returns the bytes."""
    size = 0
    with open(path, "wb", buffering=0) as file:
        for chunk in (1 << 16, 1 << 12, 1):
            try:
                while written := file.write(b"x" * chunk):
                    size += written
            except OSError:
                continue
    return size


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def main() -> None:
    training = Training(json.loads(sys.argv[1]))
    say(pid=os.getpid(), run_dir=str(training.logger.run_dir))
    for line in sys.stdin:
        answer = training.obey(json.loads(line))
        if answer is not None:
            say(**answer)


if __name__ == "__main__":
    main()
