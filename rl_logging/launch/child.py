"""The delivery process as its training process sees it: started, spoken to, listened to, replaced.

A training process has one for all its runs (as long as they were started with the same environment variables, working
directory and module search path). It is started again, with backoff, when it dies with work to do; where none can be
had, a thread takes over. For a moment after its last run's end it waits for the next.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Protocol

import msgspec

import rl_logging
from rl_logging.bundle import Bundle
from rl_logging.launch.booting import boot_command, search_path
from rl_logging.launch.progress import Progress
from rl_logging.messages import Changed, Command, Event, Hello, Hurry, Left, Sampled, Serve, Wake, Warned, event, line

log = logging.getLogger("rl_logging.launch")

HELLO_S: Final = 10.0
RESTARTS: Final = 5
RESTART_AFTER_S: Final = 0.5

_SET_BY_TORCH: Final = ("TORCHINDUCTOR_", "TRITON_")
"""With what begin the variables that torch sets in its own process while it is used: they are none of delivery's."""


class Served(Protocol):
    """A run's delivery, as the process that does it sees it."""

    progress: Progress

    @property
    def bundle(self) -> Bundle:
        """The run."""
        ...

    @property
    def patience_s(self) -> float:
        """For how long to go on trying without progress."""
        ...

    @property
    def system_metrics_s(self) -> float | None:
        """Seconds between two samples of the machine; None: there are none."""
        ...

    def sampled(self, values: dict[str, float]) -> None:
        """The process has sampled the machine."""
        ...

    def left(self) -> None:
        """The process is done with it."""
        ...

    def take_over(self) -> None:
        """No process can do it: do it otherwise."""
        ...


class DeliveryProcess:
    """A delivery process.

    Args:
        environ: Its environment variables.
        cwd: Its working directory.
    """

    _shared: ClassVar[dict[frozenset[tuple[str, str]], DeliveryProcess]] = {}
    _sharing: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, environ: Mapping[str, str], cwd: Path) -> None:
        self._environ = dict(environ)
        self._cwd = cwd
        # Re-entrant: a signal handler may log or flush in the middle of anything here.
        self._lock = threading.RLock()
        self._mail: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._why_ended = ""
        self._serving: dict[str, Served] = {}
        self._parts: dict[str, int] = {}
        self._inner: subprocess.Popen[bytes] | None = None
        self._greeted = threading.Event()
        self._deaths = 0

    @classmethod
    def shared(cls, environ: Mapping[str, str], cwd: Path) -> DeliveryProcess:
        """Returns this process's delivery process for these environment variables, to be started when needed.

        One that was started with another module search path is not taken: a sink of the user's own may not be there.
        """
        ours = (item for item in environ.items() if not item[0].startswith(_SET_BY_TORCH))
        key = frozenset((*ours, ("", str(cwd)), ("=", os.pathsep.join(search_path()))))
        with cls._sharing:
            return cls._shared.setdefault(key, cls(environ, cwd))

    @classmethod
    def forget_all(cls) -> None:
        """In a forked child: none of the parent's delivery processes is ours."""
        cls._sharing = threading.Lock()
        cls._shared = {}

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        inner = self._inner
        return None if inner is None else inner.pid

    def serve(self, delivery: Served) -> None:
        """Has a run delivered, starting the process where there is none."""
        path = str(delivery.bundle.path)
        with self._lock:
            part = self._parts[path] = self._parts.get(path, -1) + 1
            earlier = self._serving.get(path)
            self._serving[path] = delivery
            if earlier is not None:
                earlier.left()  # that part of the run is over, and this one takes up what it owes
            if self._inner is None:
                self._start()
                return
            if delivery.bundle.delivery_log != self._log_path:
                note = f"delivered by process {self._inner.pid}, whose log is {self._log_path}\n"
                with contextlib.suppress(OSError):
                    delivery.bundle.delivery_log.write_text(note, encoding="utf-8")
        self._say(Serve(path, delivery.patience_s, delivery.system_metrics_s, part))

    def wake(self, run_dir: Path, wait_s: float) -> None:
        """Asks it to look at `run_dir` at once, where somebody waits for `wait_s` seconds at most."""
        self._say(Wake(str(run_dir), wait_s))

    def hurry(self, run_dir: Path) -> None:
        """Tells it that nobody waits for `run_dir` any more: it goes on by itself while that goes well."""
        self._say(Hurry(str(run_dir)))

    def _start(self) -> None:
        """Starts the process, told of all its runs at once: a message could still be on its way when we are killed."""
        bundle = next(iter(self._serving.values())).bundle
        runs = [
            (path, served.patience_s, served.system_metrics_s, self._parts[path])
            for path, served in self._serving.items()
        ]
        self._log_path = bundle.delivery_log
        self._greeted = threading.Event()
        try:
            with open(self._log_path, "ab") as output:
                self._inner = subprocess.Popen(
                    boot_command(runs),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    env=self._environ,
                    cwd=self._cwd if self._cwd.is_dir() else bundle.path,
                    start_new_session=True,
                )
        except OSError as error:
            self._inner = None
            threading.Thread(target=self._replace, args=(f"{error}",), daemon=True).start()
            return
        self._mail, self._why_ended = queue.SimpleQueue(), ""
        for target, arguments in ((_speak, (self._inner, self._mail)), (self._listen, (self._inner, self._mail))):
            threading.Thread(target=target, args=arguments, name="rl_logging-talk", daemon=True).start()

    def _listen(self, inner: subprocess.Popen[bytes], mail: queue.SimpleQueue[bytes | None]) -> None:
        """Hears one process out, then starts another where there is still work."""
        timer = threading.Timer(HELLO_S, self._silent, args=(inner, self._greeted))
        timer.daemon = True
        timer.start()
        assert inner.stdout is not None
        for data in inner.stdout:
            try:
                self._hear(event(data))
            except msgspec.DecodeError as error:
                log.warning("the delivery process said something odd: %s", error)
        timer.cancel()
        code = inner.wait()
        mail.put(None)
        with contextlib.suppress(OSError):
            inner.stdout.close()
        self._bury(inner, code)

    def _hear(self, said: Event) -> None:
        if isinstance(said, Hello):
            self._greeted.set()
            if said.version != rl_logging.__version__:
                log.warning("the delivery process is rl_logging %s, not %s", said.version, rl_logging.__version__)
            return
        with self._lock:
            delivery = self._serving.get(said.run_dir)
            if isinstance(said, Left):
                if said.part != self._parts.get(said.run_dir):
                    return
                self._serving.pop(said.run_dir, None)
        if delivery is None:
            return
        if isinstance(said, Changed):
            before = delivery.progress.states.get(said.key)
            if before is None or said.state.confirmed > before.confirmed:
                self._deaths = 0  # it gets somewhere between its deaths
            delivery.progress.changed(said.key, said.state)
        elif isinstance(said, Warned):
            delivery.progress.warned(said.key, said.message)
        elif isinstance(said, Sampled):
            delivery.sampled(said.values)
        else:
            delivery.left()

    def _bury(self, inner: subprocess.Popen[bytes], code: int) -> None:
        with self._lock:
            if self._inner is inner:
                self._inner = None
            if not self._serving:
                return
            self._deaths += 1
            deaths = self._deaths
        if not self._greeted.is_set() and deaths > 1:
            self._replace(self._why_ended or f"it ended with exit code {code} before it said hello")
            return
        if deaths > RESTARTS:
            self._replace(f"it ended {deaths} times in a row, last with exit code {code}")
            return
        if code:
            for delivery in list(self._serving.values()):
                words = f"the delivery process ended with exit code {code} and is started again (see {self._log_path})"
                delivery.progress.warned("", words)
            threading.Event().wait(RESTART_AFTER_S * 2 ** (deaths - 1))
        with self._lock:
            if self._serving and self._inner is None:
                self._start()

    def _silent(self, inner: subprocess.Popen[bytes], greeted: threading.Event) -> None:
        if not greeted.is_set():
            with self._lock:
                self._deaths = RESTARTS
                self._why_ended = f"it said nothing for {HELLO_S:g} s"
            inner.kill()

    def _replace(self, why: str) -> None:
        """Has threads deliver what the process does not."""
        with self._lock:
            waiting = list(self._serving.values())
            self._serving.clear()
        for delivery in waiting:
            delivery.progress.warned("", f"no delivery process can be had ({why}): a thread of this one delivers")
            delivery.take_over()
            delivery.left()

    def _say(self, message: Command) -> None:
        self._mail.put(line(message))


def _speak(inner: subprocess.Popen[bytes], mail: queue.SimpleQueue[bytes | None]) -> None:
    """Hands messages to the process; in a thread of its own, since a process that is stopped reads none."""
    assert inner.stdin is not None
    # A broken pipe means that the process has ended: `_listen` sees to it.
    with contextlib.suppress(OSError, ValueError):
        while (data := mail.get()) is not None:
            inner.stdin.write(data)
            inner.stdin.flush()
    with contextlib.suppress(OSError):
        inner.stdin.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=DeliveryProcess.forget_all)
