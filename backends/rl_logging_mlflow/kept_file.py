"""A JSON file of this sink's in the run directory, replaced as a whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from rl_logging.kept import read_kept
from rl_logging.sinks import Ledger

T = TypeVar("T")


def load(path: Path, kind: type[T], ledger: Ledger) -> T | None:
    """Returns what a file holds; None where there is none, or it is damaged: then it is put aside, and told.

    Raises:
        OSError: It cannot be put aside.
    """
    try:
        return msgspec.convert(json.loads(read_kept(path)), kind)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, msgspec.DecodeError) as error:
        path.replace(path.with_suffix(".damaged"))
        ledger.warn(f"{path} is damaged ({error}): put aside; what the store has tells most of it again")
        return None


def save(path: Path, value: msgspec.Struct) -> None:
    """Replaces a file; a crash leaves the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as file:
        # The standard library's JSON keeps the NaN that a configuration may hold.
        json.dump(msgspec.to_builtins(value), file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
