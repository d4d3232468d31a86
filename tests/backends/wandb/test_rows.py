from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from rl_logging.records import Config, Metrics, Record
from rl_logging_wandb.rows import MAX_ROW_VALUES, Row, parts
from tests.support import wandb_file
from tests.support.wandb_sink import RecordingLedger, deliver, make_context, make_sink, metrics


def scalar(seq: int, step: int | None, name: str) -> Metrics:
    return Metrics(seq=seq, time=1_700_000_000.0 + seq, step=step, values={name: float(seq)})


def rows(records: Sequence[Record], last_step: int = -1) -> list[list[int]]:
    found = parts(records, lambda record: record.seq <= last_step, RecordingLedger())
    return [[record.seq for record in part.records] if isinstance(part, Row) else [part.seq] for part in found]


def test_adjacent_scalars_of_one_step_are_one_row_at_the_last_one_s_time(tmp_path: Path) -> None:
    records = [scalar(1, 10, "a"), scalar(2, 10, "b"), scalar(3, 10, "c"), scalar(4, 20, "a"), scalar(5, 20, "b")]

    deliver(make_sink(make_context(tmp_path / "run"), {"mode": "offline", "dir": str(tmp_path / "logs")}), records)

    first, second = wandb_file.read(tmp_path / "logs").rows
    assert {key: first[key] for key in ("a", "b", "c", "global_step", "_step")} == {
        "a": 1, "b": 2, "c": 3, "global_step": 10, "_step": 3,
    }  # fmt: skip
    assert first["_timestamp"] == records[2].time
    assert (second["a"], second["b"], second["_step"], second["_timestamp"]) == (4, 5, 5, records[4].time)


def test_what_does_not_belong_together_stays_apart() -> None:
    assert rows([scalar(1, 1, "a"), scalar(2, 2, "b")]) == [[1], [2]]
    assert rows([scalar(1, 1, "a"), scalar(2, 1, "a"), scalar(3, 1, "b")]) == [[1], [2, 3]]
    assert rows([scalar(1, 1, "a"), Config(seq=2, time=2.0, values={}), scalar(3, 1, "b")]) == [[1], [2], [3]]
    assert rows([scalar(1, None, "a"), scalar(2, None, "b")]) == [[1], [2]]
    # They would be stored under one name.
    assert rows([scalar(1, 1, "_a"), scalar(2, 1, "user_a")]) == [[1], [2]]
    wide = Metrics(seq=1, time=1.0, step=1, values={str(number): 0.0 for number in range(MAX_ROW_VALUES - 1)})
    assert rows([wide, scalar(2, 1, "b")]) == [[1], [2]]


def test_what_is_stored_is_in_no_new_row() -> None:
    records = [scalar(seq, 1, f"m{seq}") for seq in range(5, 9)]

    assert rows(records) == [[5, 6, 7, 8]]
    assert rows(records, last_step=6) == [[5], [6], [7, 8]]
    assert rows(records, last_step=8) == [[5], [6], [7], [8]]


@pytest.mark.parametrize("seed", range(300))
def test_every_value_is_stored_once_wherever_batches_and_crashes_fall(seed: int) -> None:
    """The store keeps a prefix of the rows it was handed, as W&B's file and file stream do."""
    random_ = random.Random(seed)
    records: list[Record] = []
    step = 0
    for seq in range(1, random_.randint(5, 40)):
        step += random_.random() < 0.3
        if random_.random() < 0.1:
            records.append(Config(seq=seq, time=1.0, values={}))
        else:
            records.append(scalar(seq, random_.choice((step, step, step, None)), random_.choice("abcdef")))
    stored: list[Row] = []
    while True:
        # A new process, which hands everything over again.
        last_step = stored[-1].last.seq if stored else -1
        in_flight: list[Row] = []
        left = records
        while left:
            size = random_.randint(1, 12)
            batch, left = left[:size], left[size:]
            found = parts(batch, lambda record, last=last_step: record.seq <= last, RecordingLedger())  # type: ignore[misc]
            in_flight += [part for part in found if isinstance(part, Row)]
            if random_.random() < 0.2:
                break
        else:
            stored += in_flight
            break
        stored += in_flight[: random_.randint(0, len(in_flight))]

    wanted = [(record.step, name, value) for record in records if isinstance(record, Metrics)
              for name, value in record.values.items()]  # fmt: skip
    there = [
        (row.last.step, name, value) for row in stored for name, value in row.values.items() if name != "global_step"
    ]
    assert there == wanted
    assert [row.last.seq for row in stored] == sorted({row.last.seq for row in stored})


def test_a_real_run_opened_again_with_other_batches_has_every_value_once(tmp_path: Path) -> None:
    random_ = random.Random(4)
    options = {"mode": "offline", "dir": str(tmp_path / "logs")}
    context = make_context(tmp_path / "run")
    records = [scalar(seq, seq // 7, f"m{seq % 7}") for seq in range(1, 61)]
    state = None
    for end in (13, 31, 60):
        sink = make_sink(context, options)
        state = dict(sink.open(state))
        left = records[:end]
        while left:
            size = random_.randint(1, 9)
            batch, left = left[:size], left[size:]
            sink.write(batch)
        # Let go at once: what has reached the file by then is W&B's affair.
        sink.close(None if end < 60 else "finished")

    assert state is not None
    found = wandb_file.read([Path(fragment) for fragment in state["fragments"]]).rows
    values = [value for row in found for value in sorted(value for key, value in row.items() if key.startswith("m"))]
    assert values == [float(seq) for seq in range(1, 61)]
    assert 60 / 7 <= len(found) < 60


def test_metrics_that_come_alone_are_rows_of_their_own() -> None:
    assert rows([metrics(1, 1, a=1.0, b=2.0)]) == [[1]]
