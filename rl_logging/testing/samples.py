"""Records and contexts to test sinks with: small, of every kind, with real files behind them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from rl_logging.media import dump_image, dump_video
from rl_logging.records import Artifact, Config, Environment, Image, Labels, Metrics, Model, Record, Video
from rl_logging.sinks import Program, SinkContext
from rl_logging.testing.ledger import MemoryLedger

BEGAN: Final = 1_750_000_000.0
"""The wall time at which sample runs began."""

_SIZE: Final = 32


def sample_context(run_dir: str | os.PathLike[str], **changes: Any) -> SinkContext:
    """Returns the context of a run in `run_dir`, which is made if missing.

    Args:
        run_dir: The run directory.
        **changes: Fields of `SinkContext` to have otherwise, such as ``run_id``.

    Returns:
        A context whose ledger is a `MemoryLedger`.
    """
    path = Path(run_dir).absolute()
    (path / "sinks").mkdir(parents=True, exist_ok=True)
    program = Program(
        pid=os.getpid(), argv=("train.py", "--seed", "1"), cwd=os.getcwd(), executable=sys.executable, main="train.py"
    )
    context = SinkContext(
        run_dir=path,
        run_id="sample01",
        name="sample run",
        project="sample-project",
        group="sample-group",
        tags=("sample", "contract"),
        notes="What a sink is tested with.",
        created=BEGAN,
        program=program,
        live=True,
        ledger=MemoryLedger(),
    )
    return msgspec.structs.replace(context, **changes)


def sample_records(run_dir: str | os.PathLike[str], *, first_seq: int = 1) -> list[Record]:
    """Returns records of every kind a sink can be handed, and what they point to.

    The picture and the video are dumped as a training process does; `rl_logging.media.materialize` makes their files.

    Args:
        run_dir: The run directory, made if missing.
        first_seq: The first record's seq; the others follow it without a gap.

    Returns:
        Metrics, configuration in two parts, an image, a video, a model, a file and a folder as artifacts, the
        environment, and labels.
    """
    folder = Path(run_dir).absolute()
    records: list[dict[str, Any]] = [
        {"of": Config, "values": {"learning_rate": 0.0003, "seed": 7, "net": {"layers": 2, "activation": "tanh"}}},
        {"of": Environment, **_environment(folder)},
        {"of": Metrics, "step": 100, "values": {"train/loss": 0.5, "train/entropy": 1.25}},
        {"of": Metrics, "step": 200, "values": {"train/loss": 0.25, "eval/reward": -150.0}},
        {"of": Image, "step": 200, "name": "state", "path": _picture(folder), "caption": "start"},
        {"of": Config, "values": {"net": {"width": 64}, "device": "cpu"}},
        {"of": Video, "step": 200, "name": "episode", "path": _video(folder), "fps": 10.0},
        {"of": Model, "step": 200, "name": "policy", **_model(folder), "aliases": ("best",)},
        {"of": Artifact, "step": 200, "name": "curve", "path": _file(folder), "type": "plot", "metadata": {"dpi": 90}},
        {"of": Artifact, "step": 200, "name": "rollouts", "path": _folder(folder), "type": "dataset"},
        {"of": Labels, "tags": ("sample", "relabelled"), "notes": "Went well."},
        {"of": Metrics, "step": 300, "values": {"train/loss": 0.125}},
    ]
    made = []
    for index, fields in enumerate(records):
        kind: type[Record] = fields.pop("of")
        made.append(kind(seq=first_seq + index, time=BEGAN + first_seq + index, **fields))
    return made


def sample_metrics(
    count: int, *, first_seq: int = 1, name: str = "train/loss", names: int = 1, every: int = 10
) -> list[Metrics]:
    """Returns `count` records of `names` scalars each; no two values of one name are alike.

    Args:
        count: How many records.
        first_seq: The first one's seq.
        name: The first scalar's name; the others get ``_2``, ``_3`` … added.
        names: Scalars in a record.
        every: Steps between two records.
    """
    keys = [name if index == 0 else f"{name}_{index + 1}" for index in range(names)]
    return [
        Metrics(
            seq=seq,
            time=BEGAN + seq,
            step=seq * every,
            values={key: seq + index / 16 for index, key in enumerate(keys)},
        )
        for seq in range(first_seq, first_seq + count)
    ]


def _environment(run_dir: Path) -> dict[str, Any]:
    _write(run_dir, "environment.json", json.dumps({"python": "3.11.4", "host": "sample-host"}).encode())
    _write(run_dir, "diff.patch", b"--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-seed = 0\n+seed = 1\n")
    facts = {"source": "train.py", "git_commit": "0" * 40, "git_branch": "main", "user": "sam", "host": "sample-host"}
    return {"path": "environment.json", "patch": "diff.patch", "facts": facts}


def _picture(run_dir: Path) -> str:
    """Dumps a picture as a training process does; the PNG itself is made on the delivery side."""
    folder = run_dir / "media" / "images" / "state"
    if not any(folder.glob("*")):
        rows, columns = np.mgrid[:_SIZE, :_SIZE]
        dump_image(
            np.stack([columns * 8, rows * 8, (rows ^ columns) * 8], axis=-1).astype(np.uint8), folder, "step_200"
        )
    return "media/images/state/step_200.png"


def _video(run_dir: Path) -> str:
    folder = run_dir / "media" / "videos" / "episode"
    if not any(folder.glob("*")):
        frames = np.zeros((5, _SIZE, _SIZE, 3), dtype=np.uint8)
        frames[..., 0] = 50 * np.arange(5)[:, None, None]
        dump_video(frames, folder, "step_200", 10.0)
    return "media/videos/episode/step_200.mp4"


def _model(run_dir: Path) -> dict[str, Any]:
    metadata = {"reward": 100.0, "episodes": 12}
    beside = {"name": "policy", "step": 200, "metadata": metadata}
    _write(run_dir, "models/policy/step_200/weights.bin", bytes(range(256)) * 8)
    _write(run_dir, "models/policy/step_200/metadata.json", json.dumps(beside).encode())
    return {"path": "models/policy/step_200", "metadata": metadata}


def _file(run_dir: Path) -> str:
    return _write(run_dir, "artifacts/curve-1a2b3c/curve.csv", b"step,reward\n100,1\n200,2\n")


def _folder(run_dir: Path) -> str:
    relative = "artifacts/rollouts-4d5e6f/rollouts"
    _write(run_dir, f"{relative}/first.txt", b"left, left, right\n")
    _write(run_dir, f"{relative}/more/second.txt", b"right\n")
    return relative


def _write(run_dir: Path, relative: str, data: bytes) -> str:
    """Writes a file unless it is there, and returns its path as records have it."""
    path = run_dir / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(data)
    return relative
