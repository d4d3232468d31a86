"""Making W&B artifacts of saved models and logged files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import wandb

from rl_logging.records import Artifact, Model
from rl_logging.sinks import Ledger
from rl_logging_wandb import values

MAX_METADATA_KEYS: Final = 100
MAX_NAME_CHARACTERS: Final = 128
RECORD_FILE: Final = "record.json"

_RESERVED_TYPES: Final = ("job", "run_table", "code")


def aliases_of(record: Model | Artifact, ledger: Ledger) -> list[str]:
    """Returns the record's aliases as W&B takes them, ``latest`` always among them."""
    given = record.aliases if isinstance(record, Model) else ()
    fitted = []
    for alias in given:
        clean = alias.replace("/", "-").replace(":", "-")[:MAX_NAME_CHARACTERS]
        if clean != alias:
            ledger.renamed(f"alias {alias}", clean)
        fitted.append(clean)
    return list(dict.fromkeys([*fitted, "latest"]))


def make(record: Model | Artifact, run_dir: Path, run_id: str, ledger: Ledger) -> wandb.Artifact:
    """Returns an artifact of the record's files and a ``record.json``.

    The latter holds seq, step, name and the whole metadata. By it two saves of equal files are two versions, while the
    same record handed over again has the same digest and stays one.

    Args:
        record: What was saved.
        run_dir: The run directory; the artifact refers to the files there, nothing is copied.
        run_id: The W&B run's id, the artifact's name ends in it.
        ledger: Told what W&B cannot hold.

    Raises:
        FileNotFoundError: The record's files are gone.
    """
    source = run_dir / record.path
    if not source.exists():
        raise FileNotFoundError(f"{source} is gone")
    name = f"{values.file_name(record.name, MAX_NAME_CHARACTERS - len(run_id) - 1)}-{run_id}"
    if name != f"{record.name}-{run_id}":
        ledger.renamed(record.name, name)
    kind = "model" if isinstance(record, Model) else _type(record.type, ledger)
    artifact = wandb.Artifact(name, kind, metadata=_metadata(record, ledger))
    # "immutable" leaves the files where they are: the bundle is their home, a second copy in the user's data
    # folder would only fill the disk.
    if source.is_dir():
        # Not `add_dir`, which prints.
        files = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if path.is_file()}
    else:
        files = {source.name: source}
    note_name = RECORD_FILE if RECORD_FILE not in files else f"rl_logging.{RECORD_FILE}"
    for inside, path in {**files, note_name: _note(record, run_dir)}.items():
        artifact.add_file(str(path), name=inside, policy="immutable", skip_cache=True)
    return artifact


def _type(given: str, ledger: Ledger) -> str:
    clean = values.file_name(given)
    if clean.startswith("wandb-") or clean in _RESERVED_TYPES:
        clean = f"user-{clean}"
    if clean != given:
        ledger.renamed(f"type {given}", clean)
    return clean


def _metadata(record: Model | Artifact, ledger: Ledger) -> dict[str, Any]:
    whole: Mapping[str, Any] = values.json_safe(record.metadata)
    if len(whole) <= MAX_METADATA_KEYS:
        return dict(whole)
    ledger.truncated(
        f"metadata of {record.name}",
        f"W&B takes {MAX_METADATA_KEYS} of its {len(whole)} keys; {RECORD_FILE} in the artifact has them all",
    )
    return dict(list(whole.items())[:MAX_METADATA_KEYS])


def _note(record: Model | Artifact, run_dir: Path) -> Path:
    folder = run_dir / "sinks" / "wandb-records"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.seq}.json"
    content = {
        "seq": record.seq,
        "step": record.step,
        "time": record.time,
        "name": record.name,
        "metadata": values.json_safe(record.metadata),
    }
    path.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")
    return path
