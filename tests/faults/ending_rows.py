"""Rows in which a process ends before its time."""

from __future__ import annotations

import os
import signal

from tests.faults.rows import row
from tests.faults.stage import FIRST, PROBE, REST, Outcome, Stage, Trainer, await_that
from tests.support.fault_proxy import Fault
from tests.support.processes import children


@row("SIGKILL of the training", exit_code=-signal.SIGKILL, status="killed")
def trainer_sigkill(stage: Stage) -> Outcome:
    return _signalled(stage, signal.SIGKILL)


@row("SIGTERM of the training", exit_code=-signal.SIGTERM, status="killed")
def trainer_sigterm(stage: Stage) -> Outcome:
    return _signalled(stage, signal.SIGTERM)


@row("Ctrl-C", exit_code=-signal.SIGINT, status="killed")
def ctrl_c(stage: Stage) -> Outcome:
    return _signalled(stage, signal.SIGINT)


@row("exception in the training", exit_code=1, status="failed")
def exception(stage: Stage) -> Outcome:
    return _left(stage, "raise", "a defect in the training")


@row("``sys.exit(3)`` in the training", exit_code=3, status="failed")
def sys_exit(stage: Stage) -> Outcome:
    return _left(stage, "exit", 3)


@row("``os._exit(5)`` in the training", exit_code=5, status="killed")
def os_exit(stage: Stage) -> Outcome:
    return _left(stage, "_exit", 5)


@row("SIGKILL of the delivery process")
def delivery_sigkill(stage: Stage) -> Outcome:
    training = stage.train()
    training.order("log", FIRST)
    stage.await_stored(training)
    killed = training.look_for_delivery()
    os.kill(killed, signal.SIGKILL)
    training.order("time anew")
    training.order("log", PROBE + REST)
    training.look_for_delivery(but=killed)
    return stage.conclude(training, training.end())


@row("SIGKILL of wandb-core", stores=("wandb",))
def wandb_core_sigkill(stage: Stage) -> Outcome:
    training = stage.train()
    training.order("log", FIRST)
    stage.await_stored(training)
    (core,) = children("wandb-core", training.look_for_delivery())
    os.kill(core, signal.SIGKILL)
    training.order("time anew")
    training.order("log", PROBE + REST)
    return stage.conclude(training, training.end())


@row(
    "an image's upload hangs, then SIGKILL of the training and the delivery process",
    exit_code=-signal.SIGKILL,
    status="killed",
    synced=True,
)
def upload_hangs(stage: Stage) -> Outcome:
    training = stage.train()
    training.order("log", FIRST)
    stage.await_stored(training)
    stage.store.front.put(Fault("hang", where=stage.store.is_upload))
    training.order("image", "picture")
    stage.store.front.await_hits(1, 60)
    training.order("time anew")
    training.order("log", PROBE + REST)
    _kill_both(training)
    exit_code = training.end()
    training.await_delivery_end()
    stage.store.front.lift()
    outcome = stage.conclude(training, exit_code, stage.sync(training))
    assert stage.store.images(training.run_dir.name.rpartition("-")[2]) == 1
    return outcome


@row(
    "store hangs, then the machine goes: SIGKILL of all processes",
    exit_code=-signal.SIGKILL,
    status="killed",
    synced=True,
)
def all_sigkill(stage: Stage) -> Outcome:
    training = stage.train()
    stage.in_trouble(training, Fault("hang", where=stage.store.is_rows))
    training.order("log", REST)
    _kill_both(training)
    exit_code = training.end()
    training.await_delivery_end()
    stage.store.front.lift()
    return stage.conclude(training, exit_code, stage.sync(training))


@row("workers forked from the training log and end")
def forked_children(stage: Stage) -> Outcome:
    training = stage.train()
    training.order("log", FIRST)
    stage.await_stored(training)
    assert training.order("fork", [3, 3, 3]) == {"exit_codes": [0, 0, 0]}
    training.order("time anew")
    training.order("log", PROBE + REST)
    return stage.conclude(training, training.end())


def _signalled(stage: Stage, number: int) -> Outcome:
    """A training that gets a signal in the middle of its loop."""
    training = stage.train()
    training.order("log", FIRST)
    stage.await_stored(training)
    training.order("time anew")
    training.ask("log on")
    training.await_calls(FIRST + PROBE + REST)
    training.kill(number)
    return _after(stage, training)


def _left(stage: Stage, how: str, value: object) -> Outcome:
    """A training that ends by itself, not by reaching its end."""
    training = stage.train()
    training.order("log", FIRST)
    stage.await_stored(training)
    training.order("time anew")
    training.order("log", PROBE + REST)
    training.ask(how, value)
    return _after(stage, training)


def _after(stage: Stage, training: Trainer) -> Outcome:
    exit_code = training.end()
    training.await_delivery_end()
    return stage.conclude(training, exit_code)


def _kill_both(training: Trainer) -> None:
    delivery = training.look_for_delivery()
    training.kill()
    os.kill(delivery, signal.SIGKILL)
    await_that(lambda: not children("rl_logging.delivery", training.pid), 10, "the delivery process's end")
