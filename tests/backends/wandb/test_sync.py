from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image as Picture

from rl_logging import ExperimentLogger
from rl_logging.records import Config, Image, Model
from rl_logging_wandb import opening, rl_logging_look_command
from tests.support import wandb_file
from tests.support.wandb_server import WandbServer
from tests.support.wandb_sink import RUN_ID, deliver, make_context, make_sink, metrics

ROOT = Path(__file__).parents[3]

KILLED = """
import os, signal, sys
from pathlib import Path
from rl_logging.records import Config
from tests.support.wandb_sink import make_context, make_sink, metrics, wait_until

root = Path(sys.argv[1])
sink = make_sink(make_context(root / "run"), {"mode": "offline", "dir": str(root / "logs")})
sink.open(None)
sink.write([Config(seq=1, time=1.0, values={"lr": 0.1})])
sink.write([metrics(seq, a=float(seq), early=1.0) for seq in range(2, 101)])
wait_until(lambda: sink.confirmed() == 100)
os.kill(os.getpid(), signal.SIGKILL)
"""


def sync(command: str, tmp_path: Path) -> str:
    words = command.split()
    assert words[:2] == ["wandb", "sync"]
    program = str(Path(sys.executable).with_name("wandb"))
    environ = {**os.environ, "WANDB_DIR": str(tmp_path)}
    ran = subprocess.run(
        [program, *words[1:]], capture_output=True, text=True, timeout=180, check=True, cwd=tmp_path, env=environ
    )
    logs = "".join(log.read_text() for log in (tmp_path / "wandb" / "logs").glob("debug-sync*.log"))
    # Its exit code is 0 whatever happens.
    assert '"level":"ERROR' not in logs, logs
    return ran.stdout + ran.stderr


@pytest.mark.parametrize("reporting", [None, "true"])
def test_an_offline_run_asks_no_server_unless_the_user_has_it_report(
    tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch, reporting: str | None
) -> None:
    monkeypatch.delenv("WANDB_ERROR_REPORTING")
    if reporting is not None:
        monkeypatch.setenv("WANDB_ERROR_REPORTING", reporting)
    config = {"wandb": {"mode": "offline", "dir": str(tmp_path / "logs")}}
    with ExperimentLogger(config, delivery="offline", dir=tmp_path / "runs", quiet=True) as logger:
        logger.log_metrics({"loss": 0.5})

    command = [sys.executable, "-m", "rl_logging", "sync", str(logger.run_dir)]
    subprocess.run(command, capture_output=True, timeout=180, check=True)

    (row,) = wandb_file.read(tmp_path / "logs").rows
    assert row["loss"] == 0.5
    # W&B's own client tells its server how long each row took, however offline the run is.
    assert bool(server.posted) == (reporting == "true")


def test_of_offline_runs_that_start_at_once_none_asks_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_ERROR_REPORTING")
    second_begins, first_is_over = threading.Event(), threading.Event()
    seen: list[str | None] = []

    def begin(mode: str, id: str) -> None:
        if id == "first":
            thread.start()
            assert second_begins.wait(60)
        else:
            second_begins.set()
            assert first_is_over.wait(60)
        seen.append(os.environ.get("WANDB_ERROR_REPORTING"))

    monkeypatch.setattr("wandb.init", begin)
    thread = threading.Thread(target=lambda: opening._begin("offline", id="second"))
    opening._begin("offline", id="first")
    first_is_over.set()
    thread.join(60)

    assert seen == ["false", "false"]
    assert "WANDB_ERROR_REPORTING" not in os.environ


def test_the_real_sync_takes_all_of_an_offline_run(tmp_path: Path, server: WandbServer) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "models/1").mkdir(parents=True)
    (run_dir / "models/1/model.pt").write_bytes(b"weights")
    Picture.new("RGB", (8, 8)).save(run_dir / "state.png")
    records = [
        Config(seq=1, time=1.0, values={"lr": 0.1}),
        *(metrics(seq, a=float(seq)) for seq in range(2, 60)),
        Image(seq=60, time=60.0, step=600, name="state", path="state.png"),
        Model(seq=61, time=61.0, step=610, name="m", path="models/1"),
        Model(seq=62, time=62.0, step=620, name="m", path="models/1"),
    ]
    options = {"mode": "offline", "dir": str(tmp_path / "logs")}
    state = deliver(make_sink(make_context(run_dir), options), records)

    command = rl_logging_look_command("wandb", options, state)
    assert command is not None
    sync(command, tmp_path)

    run = server.runs[RUN_ID]
    assert [(row["_step"], row["a"]) for row in run.rows[:-1]] == [(seq, seq) for seq in range(2, 60)]
    assert run.files[run.rows[-1]["state"]["path"]] == (run_dir / "state.png").read_bytes()
    assert run.config["lr"] == 0.1
    assert run.exit_code == 0
    assert [artifact.files["model.pt"] for artifact in server.artifact(f"m-{RUN_ID}")] == [b"weights", b"weights"]


def test_a_killed_run_and_its_continuation_sync_as_one(tmp_path: Path, server: WandbServer) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, timeout=180, check=False)
    assert killed.returncode == -signal.SIGKILL
    options = {"mode": "offline", "dir": str(tmp_path / "logs")}
    rest = [metrics(seq, a=float(seq)) for seq in range(101, 201)]
    state = deliver(make_sink(make_context(tmp_path / "run"), options), rest, "killed", {"id": RUN_ID, "base": 0})

    command = rl_logging_look_command("wandb", options, state)
    assert command is not None
    sync(command, tmp_path)

    run = server.runs[RUN_ID]
    assert len(state["fragments"]) == 2
    assert [row["a"] for row in run.rows] == list(range(2, 201))
    assert run.config["lr"] == 0.1
    assert run.summary["early"] == 1.0
    assert run.exit_code == 255
