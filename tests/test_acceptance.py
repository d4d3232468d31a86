"""What people are promised, on real stores: nothing is lost, nobody waits, and what is owed is said and can be sent."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.support import wandb_file
from tests.support.mlflow_database import database
from tests.support.mlflow_server import MlflowServer
from tests.support.processes import Watched, alive, run_command, run_script, start_script

CALLS = 10_000
DELIVERY_S = 180

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="orphans are awaited by Linux's pidfd")

# Says who it is, waits for a word, logs, and is gone. Its workers are forked the way a data loader's are.
KILLED = """
import json, os, signal, sys
from rl_logging import ExperimentLogger
from tests.support.processes import children

calls, workers, hold = map(int, sys.argv[1:])
logger = ExperimentLogger(
    {"mlflow": {"tracking_uri": "sqlite:///mlflow.db"}, "wandb": {"mode": "offline", "dir": "."}, "lr": 0.5},
    dir="runs",
)
delivery = children("rl_logging.delivery")
forked = []
for _ in range(workers):
    pid = os.fork()
    if pid == 0:
        os.read(hold, 1)
        os._exit(0)
    forked.append(pid)
print(json.dumps({"run_dir": str(logger.run_dir), "delivery": delivery, "forked": forked}), flush=True)
sys.stdin.readline()
for step in range(calls):
    logger.log_metrics({"x": step * 0.5}, step=step)
os.kill(os.getpid(), signal.SIGKILL)
"""


class Killed:
    """A script that logs and is killed at once.

    Args:
        cwd: Where it runs.
        calls: How often it logs.
        workers: How many forked processes outlive it.
    """

    def __init__(self, cwd: Path, calls: int, workers: int = 0) -> None:
        self._stack = ExitStack()
        hold, self._hold = os.pipe()
        self._stack.callback(os.close, self._hold)
        process = start_script(KILLED, cwd, (calls, workers, hold), pass_fds=(hold,))
        os.close(hold)
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        assert process.stdout is not None
        told = process.stdout.readline()
        if not told:
            pytest.fail(process.communicate()[1])
        said = json.loads(told)
        (delivery,) = said["delivery"]
        self.run_dir = Path(said["run_dir"])
        self.delivery = Watched(delivery)
        self._stack.callback(self.delivery.close)
        self.workers = [Watched(pid) for pid in said["forked"]]
        for worker in self.workers:
            self._stack.callback(worker.close)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        self.code = process.wait(180)

    def close(self) -> None:
        """Ends the workers."""
        self._stack.close()


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Any]:
    database(tmp_path / "mlflow.db")
    with ExitStack() as stack:

        def start(calls: int, workers: int = 0) -> Killed:
            process = Killed(tmp_path, calls, workers)
            stack.callback(process.close)
            return process

        yield start


def the_run(uri: str) -> tuple[MlflowClient, Any]:
    """Returns a client, and the only run at `uri`."""
    client = MlflowClient(uri)
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return client, run


def test_ten_thousand_calls_survive_sigkill(killed: Any, tmp_path: Path) -> None:
    process = killed(CALLS)
    assert process.code == -signal.SIGKILL
    assert process.delivery.wait(DELIVERY_S), "the delivery process did not end"

    client, run = the_run(f"sqlite:///{tmp_path / 'mlflow.db'}")
    history = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "x")}
    expected = {step: step * 0.5 for step in range(CALLS)}
    assert history == expected
    assert run.info.status == "KILLED"
    assert run.data.params["lr"] == "0.5"

    offline = wandb_file.read(tmp_path)
    assert offline.series("x") == list(expected.items())
    assert offline.exit_codes != [0]


def test_delivery_ends_although_forked_workers_hold_its_pipes(killed: Any, tmp_path: Path) -> None:
    process = killed(50, workers=2)
    assert process.delivery.wait(DELIVERY_S), "the delivery process waits for the forked workers"
    assert all(alive(worker.pid) for worker in process.workers)

    client, run = the_run(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert len(client.get_metric_history(run.info.run_id, "x")) == 50
    assert run.info.status == "KILLED"
    assert len(wandb_file.read(tmp_path).series("x")) == 50
    process.close()


MODULES = """
import json, sys
from rl_logging import ExperimentLogger

with ExperimentLogger(
    {"mlflow": {"tracking_uri": "sqlite:///mlflow.db"}, "wandb": {"mode": "offline", "dir": "."}},
    dir="runs",
) as logger:
    logger.log_metrics({"x": 1.0, "nested": {"y": 2}}, step=1)
    logger.log_image("state", [[0.0, 1.0], [1.0, 0.0]], step=1)
    logger.log_config({"gamma": 0.99})
    logger.flush(60)
delivered = {sink: status.delivered for sink, status in logger.status().items()}
print(json.dumps({"delivered": delivered, "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""


def test_the_training_process_imports_no_sdk(tmp_path: Path) -> None:
    done = run_script(MODULES, tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # Both SDKs were at work all the same: the delivery process has them.
    assert told["delivered"]["mlflow"] >= 4
    assert told["delivered"]["wandb"] >= 4
    assert not {"mlflow", "wandb", "torch", "sqlalchemy", "gymnasium"} & set(told["modules"])


NO_SERVER = """
import sys, time
from rl_logging import ExperimentLogger

config = {"mlflow": {"tracking_uri": sys.argv[1]}, "rl_logging": {"finish_timeout_s": 600}}
with ExperimentLogger(config, dir="runs") as logger:
    began = time.perf_counter()
    for step in range(2000):
        logger.log_metrics({"x": float(step)}, step=step)
    logged = time.perf_counter()
print(logged - began, time.perf_counter() - logged)
"""


def test_without_a_server_training_ends_in_time_and_sync_sends_what_is_owed(tmp_path: Path) -> None:
    server = MlflowServer(tmp_path / "server")
    try:
        done = run_script(NO_SERVER, tmp_path / "train", [server.uri])
        assert done.returncode == 0, done.stderr
        logging_s, finishing_s = map(float, done.stdout.split())
        assert logging_s < 10
        assert finishing_s < 120  # a store that takes records would be waited for 600 s
        assert re.search(r"still owed", done.stderr), done.stderr
        assert "because:" in done.stderr
        (command,) = re.findall(r"rl-logging sync \S+", done.stderr)

        server.start()
        sent = run_command(command, tmp_path / "train")
        assert sent.returncode == 0, sent.stdout + sent.stderr
        client, run = the_run(server.uri)
        points = client.get_metric_history(run.info.run_id, "x")
        assert [(point.step, point.value) for point in points] == [(step, float(step)) for step in range(2000)]
        assert run.info.status == "FINISHED"
    finally:
        server.close()
