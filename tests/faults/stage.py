"""One fault's stage: a store, trainings as processes of their own, and what came of it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rl_logging.bundle import Bundle
from rl_logging.bundle.destination import states
from rl_logging.journal import JournalReader
from tests.faults import trainer
from tests.faults.stores import Points, Store, Stores
from tests.support.fault_proxy import Fault
from tests.support.processes import Watched, children, own_environ, run_command, with_root_on_path

# Bounds, for a machine that many share; nothing waits for as long where all is well.
ANSWER_S = 240.0
STORED_S = 240.0
END_S = 300.0
SYNC_S = 300.0
POLL_S = 0.05

FIRST, PROBE, REST = 250, 5, 245
"""Calls before the fault, those that make sure it is met, and those while it lasts."""

CALLS = FIRST + PROBE + REST


@dataclass
class Outcome:
    """What one row of the table says.

    Attributes:
        calls: Log calls that have returned.
        timed: Of them, those since the fault was put.
        loop_s: How long these took, with the work between them.
        longest_s: The longest of them.
        accepted: Records of metrics in the journals.
        stored: Of them, how many are in the store, each point exactly once.
        rejected: How many the store refused, which was told.
        lost: How many the disk did not take, which was told.
        doubled: Points that are there more often than once.
        status: The run's in the store.
        exit_code: The training's.
        sync_code: That of ``rl-logging sync``; None where it was not needed.
    """

    calls: int
    timed: int
    loop_s: float
    longest_s: float
    accepted: int = 0
    stored: int = 0
    rejected: int = 0
    lost: int = 0
    doubled: int = 0
    status: str | None = None
    exit_code: int | None = None
    sync_code: int | None = None
    told: str = field(default="", repr=False)

    def tell(self) -> None:
        """Prints what the training told its user, which a failing test then shows."""
        print(self.told)

    @property
    def per_call_s(self) -> float:
        """How long one round of the loop took."""
        return self.loop_s / max(1, self.timed)


class Trainer:
    """A training that runs.

    Args:
        folder: Its working directory.
        job: See `tests.faults.trainer.Training`.
        environ: Its environment variables.
        wrapper: A command that becomes it, or runs it.
    """

    def __init__(self, folder: Path, job: dict[str, Any], environ: Mapping[str, str], wrapper: Sequence[str]) -> None:
        self.folder = folder
        self._meter = folder / "meter"
        self._meter.write_bytes(bytes(trainer.METER.size))
        self._stderr = folder / "stderr.txt"
        # A program of its own: run from the repository it would send the repository's uncommitted changes along.
        program = shutil.copy(trainer.__file__, folder)
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [*wrapper, sys.executable, program, json.dumps({**job, "meter": str(self._meter)})],
                cwd=folder,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        self._unread = b""
        self._stack = ExitStack()
        self._delivery: list[Watched] = []

    def await_ready(self) -> None:
        """Waits until it can be given orders."""
        told = self.hear(ANSWER_S)
        self.pid = self._process.pid
        self.run_dir = Path(told["run_dir"])
        if told["pid"] != self.pid:  # what was started runs it, in a PID namespace of its own
            (self.pid,) = children("trainer.py", self._process.pid)
        self.look_for_delivery()

    @property
    def stderr(self) -> str:
        """What it has told its user."""
        return self._stderr.read_text(errors="replace")

    @property
    def meter(self) -> tuple[int, int, float, float]:
        """How many log calls have returned; how many were timed, how long the loop took for those, their longest."""
        calls, timed, loop_s, longest_s = trainer.METER.unpack(self._meter.read_bytes())
        return calls, timed, loop_s, longest_s

    def look_for_delivery(self, but: int | None = None) -> int:
        """Returns the delivery process's id, waiting for there to be one that is not `but`."""
        found: list[int] = []

        def there() -> bool:
            found[:] = children("rl_logging.delivery", self.pid)
            return bool(found) and found != [but]

        await_that(there, ANSWER_S, "a delivery process")
        (pid,) = found
        if pid not in [watched.pid for watched in self._delivery]:
            self._delivery.append(Watched(pid))
            self._stack.callback(self._delivery[-1].close)
        return pid

    def order(self, what: str, value: object = None, **more: object) -> dict[str, Any]:
        """Has it do something, and returns its answer."""
        self.ask(what, value, **more)
        return self.hear()

    def ask(self, what: str, value: object = None, **more: object) -> None:
        """Has it do something, and does not wait for that."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({what: value, **more}).encode() + b"\n")
        self._process.stdin.flush()

    def await_calls(self, count: int) -> None:
        """Waits until `count` log calls have returned."""
        await_that(lambda: self.meter[0] >= count, ANSWER_S, f"{count} calls")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    def end(self) -> int:
        """Lets it come to its end, and returns its exit code."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it was killed
        return self._process.wait(END_S)

    def await_delivery_end(self) -> None:
        """Waits until every delivery process that it had has ended."""
        for watched in self._delivery:
            if not watched.wait(END_S):
                raise TimeoutError(f"delivery process {watched.pid} goes on {END_S:g} s after its training's end")

    def close(self) -> None:
        """Ends whatever of it is left."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(END_S)
        for watched in self._delivery:
            if not watched.wait(0):
                os.kill(watched.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass  # it was killed with an order unread
        self._stack.close()

    def hear(self, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """Returns its next answer."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not data:
                raise TimeoutError(f"the training {'ended' if ready else 'says nothing'}:\n{self.stderr}")
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        heard: dict[str, Any] = json.loads(line)
        return heard


class Stage:
    """Where one fault is put.

    Args:
        folder: For everything of it.
        stores: Makes the store.
        store: mlflow or wandb.
    """

    def __init__(self, folder: Path, stores: Stores, store: str) -> None:
        self.folder = folder
        self.store_name = store
        self._stores = stores
        self._stack = ExitStack()
        self._store: Store | None = None
        self._trainers = 0

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def store(self) -> Store:
        """The store; the shared one's face unless `own_store` was called before."""
        if self._store is None:
            self._store = self._stores.make(self.store_name, self.folder / "server")
        return self._store

    def own_store(self, *, started: bool = True) -> Store:
        """Returns a store whose server is nobody else's: it may be killed."""
        self._store = self._stores.make(self.store_name, self.folder / "server", own=True, started=started)
        return self._store

    def use(self, store: Store) -> None:
        """Has trainings go to `store`."""
        self._store = store

    def train(self, **how: Any) -> Trainer:
        """Starts a training and waits until it can be given orders; see `launch`."""
        started = self.launch(**how)
        started.await_ready()
        return started

    def launch(
        self,
        *,
        config: dict[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        finish_timeout_s: float = 240.0,
        wrapper: Sequence[str] = (),
        **settings: object,
    ) -> Trainer:
        """Starts a training.

        Args:
            config: Its configuration; None: that leads to the store.
            environ: Further environment variables.
            finish_timeout_s: How long it waits at its end.
            wrapper: A command that runs it.
            **settings: Of `rl_logging`.
        """
        folder = self.folder / f"training {self._trainers}" if self._trainers else self.folder / "training"
        self._trainers += 1
        folder.mkdir(parents=True)
        own = {**own_environ(folder / "home"), "PYTHONPATH": with_root_on_path()["PYTHONPATH"], "OMP_NUM_THREADS": "1"}
        self._environ = {**own, **(self.store.environ if config is None else {}), **(environ or {})}
        section = {"dir": "runs", "finish_timeout_s": finish_timeout_s, **settings}
        job = {"config": {**(self.store.config if config is None else config), "rl_logging": section}}
        started = Trainer(folder, job, self._environ, wrapper)
        self._stack.callback(started.close)
        return started

    def sync(self, training: Trainer) -> int:
        """Runs ``rl-logging sync`` on the training's runs, and returns its exit code."""
        done = run_command("rl-logging sync runs", training.folder, SYNC_S, self._environ)
        (training.folder / "sync.txt").write_text(done.stdout + done.stderr)
        return done.returncode

    def await_stored(self, training: Trainer, records: int = 1) -> None:
        """Waits until the store has that many records of the training."""
        run_id = run_id_of(training)
        await_that(
            lambda: steps_of(self.store.points(run_id)) >= records, STORED_S, f"{records} records in {self.store_name}"
        )

    def in_trouble(self, training: Trainer, fault: Fault, hits: int = 1) -> None:
        """Has the training log for a while, then puts `fault`, and returns when delivery has met it."""
        training.order("log", FIRST)
        self.await_stored(training)
        self.store.front.put(fault)
        training.order("time anew")
        training.order("log", PROBE)
        self.store.front.await_hits(hits, ANSWER_S)

    @staticmethod
    def _names(run_dir: Path) -> dict[str, str]:
        ((_, state, _),) = states(Bundle(run_dir)).values()
        return state.renamed

    def conclude(
        self, training: Trainer, exit_code: int | None, sync_code: int | None = None, *, renamed: bool = False
    ) -> Outcome:
        """Compares the journal with the store.

        Args:
            training: One that has ended.
            exit_code: Its exit code; None where nobody can tell.
            sync_code: That of ``rl-logging sync``, where that was needed.
            renamed: Whether to take names as the store has them.
        """
        outcome = self.measure(training)
        run_id = run_id_of(training)
        accepted = accepted_points(training.run_dir, self._names(training.run_dir) if renamed else {})
        stored = self.store.points(run_id)
        return replace(
            outcome,
            accepted=steps_of(accepted),
            stored=whole_steps(accepted, stored),
            rejected=rejected(training.run_dir),
            doubled=sum(1 for count in stored.values() if count > 1) + len(stored.keys() - accepted.keys()),
            status=self.store.status(run_id),
            exit_code=exit_code,
            sync_code=sync_code,
        )

    @staticmethod
    def measure(training: Trainer) -> Outcome:
        """Returns what the training's own clock says, and nothing of the store."""
        calls, timed, loop_s, longest_s = training.meter
        return Outcome(calls=calls, timed=timed, loop_s=loop_s, longest_s=longest_s, told=training.stderr)


def await_that(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Returns once `condition` holds.

    Raises:
        TimeoutError: It did not within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        select.select([], [], [], POLL_S)  # processes that are not ours to wait for, and stores, have no event


def run_id_of(training: Trainer) -> str:
    """Returns the run's id, which ends its directory's name."""
    return training.run_dir.name.rpartition("-")[2]


def accepted_points(run_dir: Path, names: Mapping[str, str]) -> Points:
    """Returns the points in the journal, under the stores' `names` where these differ."""
    reader = JournalReader(run_dir / "journal")
    points: Points = Points()
    while envelopes := reader.read(10_000, final=True):
        for envelope in envelopes:
            if envelope.kind == "metrics":
                points.update((names.get(name, name), envelope.step or 0) for name in decoded(envelope))
    return points


def decoded(envelope: Any) -> Mapping[str, float]:
    """Returns the values of a metrics record."""
    from rl_logging.records import Metrics, decode

    record = decode(envelope)
    assert isinstance(record, Metrics)
    return record.values


def steps_of(points: Points) -> int:
    """Returns how many steps have points."""
    return len({step for _, step in points})


def whole_steps(accepted: Points, stored: Points) -> int:
    """Returns for how many of the accepted steps every point is stored exactly once."""
    broken = {step for (key, step) in accepted if stored[key, step] != 1}
    return steps_of(accepted) - len(broken)


def rejected(run_dir: Path) -> int:
    """Returns how many records were set aside, with the reason."""
    rows = [
        json.loads(line)
        for file in run_dir.glob("sinks/*.rejected.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    assert all(row["reason"] for row in rows)
    return len(rows)


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """Returns what came of several trainings at once; of what must be equal, the first that is not as the first."""
    first = outcomes[0]
    return Outcome(
        calls=sum(it.calls for it in outcomes),
        timed=sum(it.timed for it in outcomes),
        loop_s=sum(it.loop_s for it in outcomes),
        longest_s=max(it.longest_s for it in outcomes),
        accepted=sum(it.accepted for it in outcomes),
        stored=sum(it.stored for it in outcomes),
        rejected=sum(it.rejected for it in outcomes),
        lost=sum(it.lost for it in outcomes),
        doubled=sum(it.doubled for it in outcomes),
        status=next((it.status for it in outcomes if it.status != first.status), first.status),
        exit_code=next((it.exit_code for it in outcomes if it.exit_code != first.exit_code), first.exit_code),
        sync_code=next((it.sync_code for it in outcomes if it.sync_code != first.sync_code), first.sync_code),
        told="\n".join(it.told for it in outcomes),
    )
