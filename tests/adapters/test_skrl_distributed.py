"""A real distributed training with skrl: two processes on the CPU, by torch.distributed."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl_logging.testing.files import FileStore
from tests.support.processes import start_script

pytest.importorskip("skrl")

PROCESSES = 2
STEPS = 40
NUM_ENVS = 2

TRAIN = f"""
import os, sys
from pathlib import Path

rank, folder = sys.argv[1], Path(sys.argv[2])
os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="{PROCESSES}", LOCAL_WORLD_SIZE="{PROCESSES}")

import torch

join = torch.distributed.init_process_group


def join_on_the_cpu(backend, **options):
    # skrl asks for nccl, which is for GPUs alone.
    assert backend == "nccl"
    join("gloo", init_method=(folder / "meeting").as_uri(), **options)


torch.distributed.init_process_group = join_on_the_cpu
torch.cuda.set_device = lambda device: None

from rl_logging import ExperimentLogger
from tests.support.skrl_training import Training

training = Training("PPO", folder / f"skrl_{{rank}}", num_envs={NUM_ENVS}, write_interval=10, checkpoint_interval=20)
sinks = {{"file": {{"factory": "rl_logging.testing.files:make", "path": str(folder / "out.jsonl")}}}}
with ExperimentLogger(sinks=sinks, dir=folder / "runs", delivery="thread", quiet=True) as logger:
    handle = logger.attach(training.agent)
    training.trainer({STEPS}).train()
    print(handle.attached, "write_tracking_data" in vars(training.agent))
print(sum(float(weights.double().sum()) for weights in training.agent.policy.parameters()))
torch.distributed.destroy_process_group()
"""


def test_the_first_process_logs_for_all_and_the_others_are_silent(tmp_path: Path) -> None:
    processes = [start_script(TRAIN, tmp_path / f"cwd_{rank}", [rank, tmp_path]) for rank in range(PROCESSES)]
    try:
        ended = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * PROCESSES, ended
    (first, its_sum), (second, other_sum) = (out.splitlines()[-2:] for out, _ in ended)
    assert first == "True True"
    assert second == "False False"
    assert its_sum == other_sum, "they have trained one policy"

    (manifest,) = (tmp_path / "runs").glob("*/run.json")
    points: dict[str, list[int | None]] = {}
    for name, step, _ in FileStore(tmp_path / "out.jsonl").points():
        points.setdefault(name, []).append(step)
    steps = [step * NUM_ENVS * PROCESSES for step in range(10, STEPS + 1, 10)]
    assert points["mean_rewards"] == points["timesteps"] == steps
    assert {path.stem for path in (manifest.parent / "models").iterdir()} >= {"agent"}
    assert "rl_logging" not in ended[1][1]
