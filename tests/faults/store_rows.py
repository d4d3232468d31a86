"""Rows in which the store is in trouble."""

from __future__ import annotations

import select
import time

from tests.faults.rows import row
from tests.faults.stage import FIRST, PROBE, REST, Outcome, Stage, Trainer
from tests.support.fault_proxy import Fault

SHORT_FINISH_S = 8.0
OUTAGE_S = 3.0
RETRY_AFTER_S = 2


@row("none")
def no_fault(stage: Stage) -> Outcome:
    training = stage.train()
    training.order("log", FIRST)
    stage.await_stored(training)
    training.order("time anew")
    training.order("log", PROBE)
    training.order("log", REST)
    return stage.conclude(training, training.end())


@row("store not running at the start", synced=True)
def not_running_at_the_start(stage: Stage) -> Outcome:
    store = stage.own_store(started=False)
    training = stage.train(finish_timeout_s=SHORT_FINISH_S)
    training.order("log", FIRST + PROBE + REST)
    exit_code = training.end()
    is_told(training)
    training.await_delivery_end()
    store.start()
    return stage.conclude(training, exit_code, stage.sync(training))


@row("store killed half-way, never back while the training lives", synced=True)
def killed_and_never_back(stage: Stage) -> Outcome:
    store = stage.own_store()
    training = stage.train(finish_timeout_s=SHORT_FINISH_S)
    training.order("log", FIRST)
    stage.await_stored(training)
    store.kill()
    training.order("time anew")
    training.order("log", PROBE + REST)
    exit_code = training.end()
    is_told(training)
    training.await_delivery_end()
    store.start()
    return stage.conclude(training, exit_code, stage.sync(training))


@row(f"store killed half-way, back after {OUTAGE_S:g} s")
def killed_and_back(stage: Stage) -> Outcome:
    store = stage.own_store()
    training = stage.train()
    training.order("log", FIRST)
    stage.await_stored(training)
    store.kill()
    gone_at = time.monotonic()
    training.order("time anew")
    training.order("log", PROBE + REST)
    select.select([], [], [], max(0.0, gone_at + OUTAGE_S - time.monotonic()))  # the length of an outage is no wait
    store.start()
    return stage.conclude(training, training.end())


@row("store hangs")
def hangs(stage: Stage) -> Outcome:
    return _trouble(stage, Fault("hang"))


@row("store answers 500")
def internal_errors(stage: Stage) -> Outcome:
    return _trouble(stage, Fault("status", status=500))


@row("store answers 429 with Retry-After")
def too_many_requests(stage: Stage) -> Outcome:
    fault = Fault("status", where=stage.store.is_rows, status=429, headers={"Retry-After": str(RETRY_AFTER_S)})
    training = stage.train()
    stage.in_trouble(training, fault)
    training.order("log", REST)
    stage.store.front.await_hits(3, 60)
    first, second, third, *_ = stage.store.front.hits
    if stage.store_name == "mlflow":  # W&B's client makes its own retries
        assert min(second.at_s - first.at_s, third.at_s - second.at_s) >= RETRY_AFTER_S
    stage.store.front.lift()
    return stage.conclude(training, training.end())


@row("store drops connections")
def drops_connections(stage: Stage) -> Outcome:
    return _trouble(stage, Fault("drop"))


@row("answers to rows are lost after the store has acted")
def answers_lost(stage: Stage) -> Outcome:
    training = stage.train()
    stage.in_trouble(training, Fault("lose answer", where=stage.store.is_rows, most=3))
    training.order("log", REST)
    stage.store.front.await_hits(3, 60)
    return stage.conclude(training, training.end())


@row("the answer to the run's creation is lost")
def creation_lost(stage: Stage) -> Outcome:
    store = stage.own_store()
    store.front.put(Fault("lose answer", where=store.is_creation, most=1))
    training = stage.train()
    training.order("log", FIRST + PROBE + REST)
    store.front.await_hits(1, 60)
    outcome = stage.conclude(training, training.end())
    assert len(store.runs()) == 1
    return outcome


@row("credentials refused (401) until after the training", synced=True)
def credentials_refused(stage: Stage) -> Outcome:
    store = stage.store
    store.front.put(Fault("status", status=401))
    training = stage.train(finish_timeout_s=SHORT_FINISH_S)
    training.order("log", FIRST)
    store.front.await_hits(1, 60)
    training.order("time anew")
    training.order("log", PROBE + REST)
    exit_code = training.end()
    is_told(training)
    variable = {"mlflow": "MLFLOW_TRACKING_TOKEN", "wandb": "WANDB_API_KEY"}[stage.store_name]
    assert variable in training.stderr, training.stderr
    training.await_delivery_end()
    store.front.lift()
    return stage.conclude(training, exit_code, stage.sync(training))


def _trouble(stage: Stage, fault: Fault) -> Outcome:
    """A store in trouble until the loop has ended."""
    training = stage.train()
    stage.in_trouble(training, fault)
    training.order("log", REST)
    assert stage.store.front.troubled
    stage.store.front.lift()
    return stage.conclude(training, training.end())


def is_told(training: Trainer) -> None:
    """The user was told what is owed, and what to do."""
    assert "still owed" in training.stderr, training.stderr
    # Where the delivery process is still at it, there is nothing to be done yet.
    assert "rl-logging sync" in training.stderr or "rl-logging status" in training.stderr, training.stderr
