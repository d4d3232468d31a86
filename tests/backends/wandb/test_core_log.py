"""What is made of wandb-core's own log: which uploads it gave up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rl_logging_wandb.core_log import CoreLog


def given_up(path: str, words: str = "returned error 403") -> bytes:
    task = f"DefaultUploadTask{{FileKind: 1, Path: {path}, Name: a, Url: u}}"
    return json.dumps({"level": "ERROR", "msg": words, "task": task}, separators=(",", ":")).encode() + b"\n"


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "debug-internal.log"
    log = CoreLog(path)
    assert log.take("/a") is None
    told = given_up("/a")
    path.write_bytes(b'{"level":"INFO"}\n' + told[:-10])
    assert log.take("/a") is None, "the line is not whole yet"
    path.write_bytes(b'{"level":"INFO"}\n' + told + given_up("/b", "status: 500"))
    failure = log.take("/a")
    assert failure is not None
    assert failure.for_good
    assert log.take("/a") is None, "it was taken"
    failure = log.take("/b")
    assert failure is not None
    assert not failure.for_good


def test_it_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_logging_wandb.core_log.READ_BYTES", 400)
    path = tmp_path / "debug-internal.log"
    lines = [given_up(f"/{number}") for number in range(20)]
    path.write_bytes(b"".join(lines[:10]) + b"x" * 1000 + b"\n" + b"".join(lines[10:]))
    log = CoreLog(path)
    assert all(log.take(f"/{number}") is not None for number in range(20))
