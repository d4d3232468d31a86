"""The delivery process: serves the run directories its training process names, and ends a while after its work.

The next run of a sweep in a loop finds it there, with the SDKs imported. It is started by `rl_logging.launch` in a
session of its own. It knows the training process's end from the operating system, never from a closed pipe alone: a
forked worker may keep that open. While the training process lives, SIGTERM, SIGINT and SIGHUP are not for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import BinaryIO, Final

import rl_logging
from rl_logging.bundle import Bundle, BundleError
from rl_logging.bundle.destination import DestinationState
from rl_logging.delivery import garbage
from rl_logging.delivery.host import BundleDelivery
from rl_logging.delivery.mail import LAST_WORDS_S, Mail
from rl_logging.delivery.outbox import Outbox
from rl_logging.messages import Changed, Command, Event, Hello, Hurry, Left, Sampled, Serve, Warned
from rl_logging.system_metrics import Sampling

log = logging.getLogger("rl_logging.delivery")

NICE: Final = 5
EXIT_S: Final = 10.0
CHECK_S: Final = 5.0
STUCK_S: Final = 60.0


def main(
    trainer_pid: int, trainer_started: float, runs: Sequence[tuple[str, float, float | None, int]], linger_s: float
) -> None:
    """Runs the delivery process until everything it was asked for is done.

    Args:
        trainer_pid: The training process.
        trainer_started: When that started (`rl_logging.processes.started_at`).
        runs: Run directories to deliver from the start, with their patience in seconds, the seconds between two
            samples of the machine (None for none), and which part of the run it is.
        linger_s: For how long to wait for another run, while the training process lives.
    """
    commands, events = _take_pipes()
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(NICE)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s %(levelname)s %(message)s")
    server = Server(events, linger_s)
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), server.asked_to_end)
    mail = Mail(commands, [Serve(*run) for run in runs], trainer_pid, trainer_started)
    threading.Thread(target=server.obey_all, args=(mail,), name="rl_logging-listen", daemon=True).start()
    server.wait()
    server.say_the_rest()
    _leave()


class Server:
    """What the delivery process does for its runs.

    Args:
        events: The pipe to the training process; written until it breaks.
        linger_s: For how long to wait for another run, while the training process lives.
    """

    def __init__(self, events: BinaryIO, linger_s: float) -> None:
        self._linger_s = linger_s
        self._leaving = False
        self._outbox = Outbox(events)
        self._lock = threading.Lock()
        self._runs: dict[str, BundleDelivery] = {}
        self._samplings: dict[str, Sampling] = {}
        self._again: dict[str, Serve] = {}
        self._gone = False
        self._hurried: set[str] = set()
        self._parts: dict[str, int] = {}
        self._patience_s = 0.0
        self._heard_at = time.monotonic()
        self._asked = threading.Event()
        self._change = threading.Condition(self._lock)
        self._say(Hello(rl_logging.__version__, os.getpid()))

    def obey_all(self, mail: Mail) -> None:
        """Obeys commands until the training process has ended; then has its runs finished."""
        for asked in mail:
            self._try_to_obey(asked)
        log.info("the training process has ended")
        self._heard_at = time.monotonic()
        with self._change:
            self._gone = True
            for sampling in self._samplings.values():
                sampling.stop()
            for run in self._runs.values():
                run.run_is_over()
            self._change.notify_all()
        self._asked.set()

    def asked_to_end(self, number: int, frame: object) -> None:
        """Obeys a signal once the training process is gone: leaves what is still owed for later."""
        if self._gone:
            # Not here: a signal handler interrupts the thread that may hold the lock.
            threading.Thread(target=self._stop_all, name="rl_logging-stop", daemon=True).start()

    def wait(self) -> None:
        """Returns when no run is left to serve, and none comes; or nothing has moved for long after the training's end.

        What is asked for after that is left to the process that the training process then starts.
        """
        self._asked.wait()
        with self._change:
            while self._runs or self._is_asked_again():
                self._change.wait(CHECK_S)
                busy_until = max((run.busy_until() for run in self._runs.values()), default=0.0)
                still_s = time.monotonic() - max(self._heard_at, busy_until)
                if (self._gone or self._runs.keys() <= self._hurried) and still_s > self._patience_s + STUCK_S:
                    log.error("no worker has moved for %.0f s: leaving %s", still_s, ", ".join(self._runs))
                    break
            self._leaving = True

    def _is_asked_again(self) -> bool:
        """Waits for another run while the training process lives; True once there is one."""
        self._change.wait_for(lambda: bool(self._runs) or self._gone, 0.0 if self._gone else self._linger_s)
        return bool(self._runs)

    def _try_to_obey(self, asked: Command) -> None:
        try:
            self._obey(asked)
        except Exception as error:  # one run's trouble must not end the listening to the others
            log.exception("cannot obey %s", asked)
            if isinstance(asked, Serve):
                self._say(Warned(asked.run_dir, "", f"cannot be delivered: {error!r}"))
                self._say(Left(asked.run_dir, asked.part))
                self._asked.set()

    def _obey(self, asked: Command) -> None:
        if isinstance(asked, Serve):
            self._serve(asked)
            self._asked.set()
            return
        if isinstance(asked, Hurry):
            self._sample_no_more(asked.run_dir)
        with self._lock:
            named = [run for path, run in self._runs.items() if asked.run_dir in (None, path)]
            if isinstance(asked, Hurry):
                self._hurried.add(asked.run_dir)
        for run in named:
            if isinstance(asked, Hurry):
                run.hurry()
            else:
                run.wake(asked.wait_s)

    def _stop_all(self) -> None:
        log.info("asked to end")
        with self._lock:
            for run in self._runs.values():
                run.stop()

    def _serve(self, asked: Serve, *, again: bool = False) -> None:
        path = asked.run_dir
        self._sample(asked)
        with self._lock:
            if self._leaving:
                return
            self._hurried.discard(path)
            if path in self._runs and not again:
                # The program goes on with a run whose end is still being delivered.
                self._again[path] = asked
                return

        def tell(key: str, state: DestinationState) -> None:
            garbage.spare(state)
            self._say(Changed(path, key, state))

        def warn(key: str, message: str) -> None:
            self._say(Warned(path, key, message))

        try:
            run = BundleDelivery(Bundle(path), live=True, tell=tell, warn=warn, patience_s=asked.patience_s)
        except BundleError as error:
            warn("", str(error))
            self._forget(path, asked.part)
            return
        with self._change:
            if self._leaving:
                return
            self._runs[path] = run
            self._parts[path] = asked.part
            self._change.notify_all()
            self._patience_s = max(self._patience_s, asked.patience_s)
            if self._gone:
                run.run_is_over()
        log.info("serving %s", path)
        run.start()
        threading.Thread(target=self._see_off, args=(path, run), name="rl_logging-run", daemon=True).start()

    def _see_off(self, path: str, run: BundleDelivery) -> None:
        run.join()
        log.info("done with %s", path)
        with self._lock:
            part = self._parts[path]
        self._forget(path, part)

    def _forget(self, path: str, part: int) -> None:
        with self._change:
            again = self._again.pop(path, None)
            if again is None:
                self._runs.pop(path, None)
                self._hurried.discard(path)
        if again is not None:
            self._serve(again, again=True)
            return
        self._sample_no_more(path)
        self._say(Left(path, part))
        with self._change:
            self._change.notify_all()

    def _sample(self, asked: Serve) -> None:
        """Samples the machine for a run while its training process lives, which is sent the figures."""
        path = asked.run_dir
        if asked.system_metrics_s is None:
            return

        def take(values: dict[str, float]) -> None:
            self._outbox.put(Sampled(path, values))  # not `_say`: it is no sign of a worker that moves

        def tell(key: str, message: str) -> None:
            self._say(Warned(path, "system_metrics", message))

        with self._lock:
            if self._gone or self._leaving or path in self._samplings:
                return
            sampling = self._samplings[path] = Sampling(path, asked.system_metrics_s, take, tell)
        sampling.start()

    def _sample_no_more(self, path: str) -> None:
        with self._lock:
            sampling = self._samplings.pop(path, None)
        if sampling is not None:
            sampling.stop()

    def _say(self, event: Event) -> None:
        self._heard_at = time.monotonic()
        self._outbox.put(event)

    def say_the_rest(self) -> None:
        """Waits a moment for what is not said yet."""
        self._outbox.flush(LAST_WORDS_S)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Returns standard input and output for ourselves, and sends what libraries print to the log (stderr)."""
    commands = os.fdopen(os.dup(0), "rb", buffering=0)
    events = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return commands, events


def _leave() -> None:
    """Ends the process, also where an SDK's exit handler hangs."""
    timer = threading.Timer(EXIT_S, os._exit, args=(0,))
    timer.daemon = True
    timer.start()
    sys.stdout.flush()
    sys.exit(0)
