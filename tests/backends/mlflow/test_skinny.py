"""With mlflow-skinny of 3.15 or older, which is all that Azure's plugin allows, against a real server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.mlflow_driver import with_paths
from tests.support.mlflow_server import MlflowServer

ROOT = Path(__file__).parents[3]

SCRIPT = """
import importlib.util, json, sys, uuid
from pathlib import Path
assert importlib.util.find_spec("sqlalchemy") is None, "this is not skinny"
import mlflow
assert tuple(map(int, mlflow.__version__.split(".")[:2])) <= (3, 15), mlflow.__version__
from tests.support.mlflow_driver import CREATED, Bench
from rl_logging.records import Config, Image, Metrics, Model
bench = Bench(sys.argv[1], Path(sys.argv[2]))
bench.place("models/best/step_1/model.zip", b"m")
records = [
    Metrics(seq=1, time=CREATED, step=1, values={"loss": 0.5, "Reward / Total reward (mean)": 1.0}),
    Config(seq=2, time=CREATED, values={"lr": 3e-4}),
    Image(seq=3, time=CREATED, step=1, name="a/b", path=bench.place_png("media/1.png")),
    Model(seq=4, time=CREATED, step=1, name="best", path="models/best/step_1"),
]
bench.deliver(records, status=None)
bench.deliver(records)
mlflow.set_tracking_uri(sys.argv[1])  # old clients read artifacts from there only
data = bench.run().data
print(json.dumps({
    "status": bench.run().info.status,
    "loss": bench.history("loss"),
    "metrics": sorted(data.metrics),
    "params": data.params,
    "files": sorted(bench.files()),
}))
"""


def interpreter() -> Path:
    """Returns the Python with mlflow-skinny, or skips."""
    named = os.environ.get("RL_LOGGING_SKINNY_PYTHON")
    python = Path(named) if named else ROOT / ".venv-skinny" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no Python with mlflow-skinny<=3.15 at {python}; name one in RL_LOGGING_SKINNY_PYTHON")
    return python


def test_everything_arrives(server: MlflowServer, tmp_path: Path) -> None:
    done = subprocess.run(
        [interpreter(), "-c", SCRIPT, server.uri, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=with_paths(),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["status"] == "FINISHED"
    assert found["loss"] == [[1, 0.5, 1_700_000_000_250]]
    assert found["metrics"] == ["Reward / Total reward mean", "loss"]
    assert found["params"] == {"lr": "0.0003"}
    assert [path for path in found["files"] if not path.startswith("images/")] == [
        "config.yaml",
        "models/best/step_1/checksums.json",
        "models/best/step_1/model.zip",
    ]
    assert len(found["files"]) == 5


def test_a_database_is_refused_with_the_remedy(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.support.mlflow_driver import Bench\n"
        "Bench(sys.argv[1], Path(sys.argv[2])).open()"
    )
    done = subprocess.run(
        [interpreter(), "-c", script, f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=with_paths(),
    )
    assert done.returncode == 1
    assert "RejectedError" in done.stderr
    assert "pip install mlflow" in done.stderr
