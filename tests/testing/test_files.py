"""The store in a file: what it keeps when processes end, and its switches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rl_logging.records import Metrics
from rl_logging.sinks import RejectedError, SinkContext, TransientError
from rl_logging.testing import FileSink, FileStore, sample_context
from rl_logging.testing.files import make
from rl_logging.testing.samples import sample_metrics

WRITER = """
import sys
from rl_logging.testing import FileSink, sample_context
from rl_logging.testing.samples import sample_metrics
sink = FileSink(sample_context(sys.argv[1]), sys.argv[2])
sink.open(None)
for seq in range(1, 1_000_000):
    sink.write(sample_metrics(1, first_seq=seq))
    print(seq, flush=True)
"""


@pytest.fixture
def context(tmp_path: Path) -> SinkContext:
    return sample_context(tmp_path / "run")


def test_what_was_confirmed_outlives_its_process(tmp_path: Path, context: SinkContext) -> None:
    path = tmp_path / "store.jsonl"
    command = [sys.executable, "-c", WRITER, str(context.run_dir), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(20)]
        os.kill(writer.pid, signal.SIGKILL)
    assert FileStore(path).seqs()[:20] == told == list(range(1, 21))
    sink = FileSink(context, path)
    sink.open(None)
    last = sink.confirmed()
    assert last >= 20
    sink.write(sample_metrics(5, first_seq=last - 2))
    assert FileStore(path).seqs() == list(range(1, last + 3))


def test_an_unfinished_line_harms_no_other(tmp_path: Path, context: SinkContext) -> None:
    path = tmp_path / "store.jsonl"
    sink = FileSink(context, path)
    sink.open(None)
    sink.write(sample_metrics(3))
    sink.close(None)
    path.write_bytes(path.read_bytes()[:-15])
    again = FileSink(context, path)
    again.open(None)
    assert again.confirmed() == 2
    again.write(sample_metrics(3))
    again.close("finished")
    assert FileStore(path).seqs() == [1, 2, 3]
    assert FileStore(path).status(context.run_id) == "finished"


def test_switches_are_files(tmp_path: Path, context: SinkContext) -> None:
    down, hold = tmp_path / "down", tmp_path / "hold"
    options = {"path": str(tmp_path / "store.jsonl"), "down_while": str(down), "hold_while": str(hold)}
    sink = make("file", context, options)
    sink.open(None)
    down.touch()
    with pytest.raises(TransientError, match="down"):
        sink.write(sample_metrics(1))
    with pytest.raises(TransientError, match="down"):
        make("file", context, options).open(None)
    down.unlink()
    hold.touch()
    sink.write(sample_metrics(1))
    assert sink.confirmed() == 0
    hold.unlink()
    assert sink.confirmed() == 1


def test_a_hanging_write_goes_on(tmp_path: Path, context: SinkContext) -> None:
    hang = tmp_path / "hang"
    hang.touch()
    sink = FileSink(context, tmp_path / "store.jsonl", hang_while=hang)
    sink.open(None)
    writer = threading.Thread(target=sink.write, args=(sample_metrics(1),))
    writer.start()
    store = FileStore(tmp_path / "store.jsonl")
    assert not store.wait_for(lambda store: bool(store.seqs()), timeout_s=0.1)
    hang.unlink()
    assert store.wait_for(lambda store: store.seqs() == [1])
    writer.join(60)


def test_names_are_refused_as_asked(tmp_path: Path, context: SinkContext) -> None:
    sink = make("file", context, {"path": str(tmp_path / "store.jsonl"), "refuse": ["poison"]})
    sink.open(None)
    records = [*sample_metrics(2), Metrics(seq=3, time=0.0, step=3, values={"poison": 1.0, "loss": 2.0})]
    with pytest.raises(RejectedError) as caught:
        sink.write(records)
    assert [record.seq for record in caught.value.records] == [3]
    assert FileStore(tmp_path / "store.jsonl").seqs() == [1, 2]
    assert sink.confirmed() == 3


def test_a_path_is_needed(context: SinkContext) -> None:
    with pytest.raises(RejectedError, match=r"file\.path: is missing"):
        make("file", context, {})


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "nothing.jsonl")
    assert (store.rows(), store.points(), store.config(), store.status()) == ([], [], {}, None)
