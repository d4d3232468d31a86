from __future__ import annotations

import logging
import zlib
from pathlib import Path

import pytest

from rl_logging_wandb.transaction_log import BLOCK_BYTES, CHUNK_HEADER, TransactionLog
from tests.support import wandb_file
from tests.support.wandb_sink import deliver, make_context, make_sink, metrics


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = tmp_path_factory.mktemp("whole")
    long_name = "x" * 200
    records = [metrics(seq, **{f"{long_name}{i}": float(seq) for i in range(10)}) for seq in range(1, 101)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_X_DISABLE_STATS", "true")
        patch.setenv("HOME", str(root))
        deliver(make_sink(make_context(root / "run"), {"mode": "offline", "dir": str(root)}), records)
    (directory,) = wandb_file.offline_directories(root)
    data = next(directory.glob("*.wandb")).read_bytes()
    assert len(data) > 4 * 32768
    return data


def steps(log: TransactionLog) -> list[int]:
    return [record.history.step.num for record in log.read() if record.WhichOneof("record_type") == "history"]


def test_it_reads_on_where_it_stopped_however_the_file_grows(tmp_path: Path, log: bytes) -> None:
    path = tmp_path / "run-x.wandb"
    reader = TransactionLog(path)
    assert steps(reader) == []
    seen: list[int] = []
    for end in [*range(0, len(log), 997), len(log)]:
        path.write_bytes(log[:end])
        seen += steps(reader)

    assert seen == list(range(1, 101))


def test_it_reads_piece_by_piece(tmp_path: Path, log: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run-x.wandb"
    path.write_bytes(log)
    for size in (100, 5000, len(log)):
        monkeypatch.setattr("rl_logging_wandb.transaction_log.READ_BYTES", size)
        assert steps(TransactionLog(path)) == list(range(1, 101))


def test_what_is_torn_off_is_not_there(tmp_path: Path, log: bytes) -> None:
    path = tmp_path / "run-x.wandb"
    path.write_bytes(log[: len(log) // 2])

    seen = steps(TransactionLog(path))

    assert 0 < len(seen) < 100
    assert seen == list(range(1, len(seen) + 1))


def test_nothing_is_believed_behind_a_bad_byte(tmp_path: Path, log: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "run-x.wandb"
    middle = len(log) // 2
    path.write_bytes(log[:middle] + bytes([log[middle] ^ 0xFF]) + log[middle + 1 :])
    reader = TransactionLog(path)

    with caplog.at_level(logging.WARNING, "rl_logging"):
        seen = steps(reader)

    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) < 100
    assert "unreadable from byte" in caplog.text
    assert steps(reader) == []


def test_a_record_without_an_end_does_not_fill_the_memory(
    tmp_path: Path, log: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rl_logging_wandb.transaction_log.READ_BYTES", 1 << 15)
    monkeypatch.setattr("rl_logging_wandb.transaction_log.MOST_BYTES", 1 << 18)
    first, middle = 2, 3
    room = BLOCK_BYTES - len(log) % BLOCK_BYTES  # the file's own header is none of a block's
    filled = chunk(first, room - CHUNK_HEADER.size)
    path = tmp_path / "run-x.wandb"
    path.write_bytes(log + filled + chunk(middle, BLOCK_BYTES - CHUNK_HEADER.size) * 100)
    reader = TransactionLog(path)

    with caplog.at_level(logging.WARNING, "rl_logging"):
        assert steps(reader) == list(range(1, 101))

    assert f"unreadable from byte {len(log)} on: a record has no end" in caplog.text
    assert steps(reader) == []


def chunk(kind: int, length: int) -> bytes:
    data = bytes([kind]) + bytes(length)
    return CHUNK_HEADER.pack(zlib.crc32(data), length, kind) + data[1:]
