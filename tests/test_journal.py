from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl_logging.journal import Damage, JournalError, JournalReader, JournalWriter, last_seq, segments
from rl_logging.journal.reader import CHUNK_BYTES, _tail
from rl_logging.records import Metrics, decode


def write(folder: Path, count: int, **options: object) -> JournalWriter:
    writer = JournalWriter(folder, "run", **options)
    for index in range(count):
        writer.append("metrics", index, {"loss": index / 2})
    return writer


def read_all(folder: Path, **options: int) -> tuple[list[int], JournalReader]:
    reader = JournalReader(folder, **options)
    found = []
    while batch := reader.read(7, final=True):
        found += [envelope.seq for envelope in batch]
    return found, reader


def test_what_was_written_is_read(tmp_path: Path) -> None:
    writer = write(tmp_path, 50)
    reader = JournalReader(tmp_path)
    records = [decode(envelope) for envelope in reader.read(100)]
    assert [(r.seq, r.step, r.values["loss"]) for r in records if isinstance(r, Metrics)] == [
        (index + 1, index, index / 2) for index in range(50)
    ]
    times = [record.time for record in records]
    assert times == sorted(times)
    assert writer.seq == 50
    assert not reader.damage


def test_a_reader_goes_on_where_it_was(tmp_path: Path) -> None:
    writer = write(tmp_path, 3)
    reader = JournalReader(tmp_path)
    assert [envelope.seq for envelope in reader.read()] == [1, 2, 3]
    assert reader.read() == []
    writer.append("metrics", 9, {"a": 1.0})
    assert [envelope.seq for envelope in reader.read()] == [4]


def test_segments_follow_each_other_and_a_reader_starts_in_the_middle(tmp_path: Path) -> None:
    write(tmp_path, 500, segment_bytes=1000)
    assert len(segments(tmp_path)) > 5
    assert read_all(tmp_path)[0] == list(range(1, 501))
    found, reader = read_all(tmp_path, after=321)
    assert found == list(range(322, 501))
    assert not reader.damage
    assert last_seq(tmp_path) == 500


def test_a_reader_follows_a_writer_over_many_segments(tmp_path: Path) -> None:
    reader = JournalReader(tmp_path)
    found: list[int] = []
    done = threading.Event()

    def follow() -> None:
        while True:
            ended = done.is_set()
            batch = reader.read(13)
            found.extend(envelope.seq for envelope in batch)
            if ended and not batch:
                return

    thread = threading.Thread(target=follow)
    thread.start()
    write(tmp_path, 5000, segment_bytes=4000)
    done.set()
    thread.join(60)
    assert found == list(range(1, 5001))
    assert not reader.damage


def test_a_segment_that_is_deleted_at_any_moment_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 100, segment_bytes=1000).close()
    first = segments(tmp_path)[0]

    def tail(path: Path, offset: int) -> bytes:
        first.unlink(missing_ok=True)
        return _tail(path, offset)

    monkeypatch.setattr("rl_logging.journal.reader._tail", tail)
    reader = JournalReader(tmp_path)
    assert [envelope.seq for envelope in reader.read(1000)] == [*range(1, 101)]
    assert not first.exists()
    assert not reader.damage


def test_an_incomplete_last_frame_is_quiet_and_every_reopening_starts_a_new_segment(tmp_path: Path) -> None:
    write(tmp_path, 10).close()
    last = segments(tmp_path)[-1]
    data = last.read_bytes()
    last.write_bytes(data[:-3])
    found, reader = read_all(tmp_path)
    assert found == list(range(1, 10))
    assert not reader.damage

    write(tmp_path, 2).close()
    assert len(segments(tmp_path)) == 2
    assert last.read_bytes() == data[:-3]
    found, reader = read_all(tmp_path)
    assert found == [*range(1, 10), 10, 11]
    assert [damage.why for damage in reader.damage] == ["torn"]


@pytest.mark.parametrize("place", ["length", "checksum", "payload"])
def test_a_corrupted_frame_is_passed_over_and_reported(tmp_path: Path, place: str) -> None:
    write(tmp_path, 20).close()
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    offset = frame_offset(bytes(data), 10)
    if place == "length":
        struct.pack_into("<I", data, offset, 5_000_000)
    elif place == "checksum":
        data[offset + 5] ^= 0xFF
    else:
        data[offset + 12] ^= 0xFF
    path.write_bytes(bytes(data))
    found, reader = read_all(tmp_path)
    assert found == [seq for seq in range(1, 21) if seq != 11]
    assert reader.missing == 1
    assert reader.damage[0].offset == offset
    assert any("11 to 11" in damage.why for damage in reader.damage)


def frame_offset(data: bytes, index: int) -> int:
    offset = 16 + struct.unpack_from("<H", data, 10)[0]
    for _ in range(index):
        offset += 8 + struct.unpack_from("<I", data, offset)[0]
    return offset


def test_holes_between_segments_are_reported(tmp_path: Path) -> None:
    write(tmp_path, 300, segment_bytes=1000).close()
    middle = segments(tmp_path)[3]
    lost, _ = [], middle.unlink()
    found, reader = read_all(tmp_path)
    lost = sorted(set(range(1, 301)) - set(found))
    assert lost
    assert reader.missing == len(lost)
    assert f"records {lost[0]} to {lost[-1]} are missing" in [damage.why for damage in reader.damage]


def test_a_segment_without_a_header_is_searched(tmp_path: Path) -> None:
    write(tmp_path, 5).close()
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[0] ^= 0xFF
    path.write_bytes(bytes(data))
    found, reader = read_all(tmp_path)
    assert found == [1, 2, 3, 4, 5]
    assert reader.damage[0].why == "no segment header"


def test_a_newer_format_is_refused_in_words(tmp_path: Path) -> None:
    write(tmp_path, 1).close()
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, 8, 99)
    path.write_bytes(bytes(data))
    with pytest.raises(JournalError, match="needs a newer rl_logging"):
        read_all(tmp_path)


def test_a_record_that_is_too_large_is_not_accepted_and_harms_no_other(tmp_path: Path) -> None:
    writer = write(tmp_path, 1)
    with pytest.raises(JournalError, match="over the limit"):
        writer.append("config", None, {"text": "x" * (17 << 20)})
    writer.append("metrics", 1, {"a": 1.0})
    assert writer.lost == 1
    assert read_all(tmp_path)[0] == [1, 2]


def test_a_short_write_starts_a_new_segment_and_nothing_accepted_is_lost(tmp_path: Path) -> None:
    # RLIMIT_FSIZE makes the kernel take part of a frame, as a full disk does.
    script = """
import resource, signal, sys
from pathlib import Path
from rl_logging.journal import Damage, JournalError, JournalWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = JournalWriter(Path(sys.argv[1]), "run")
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
accepted = 0
for index in range(200):
    accepted = writer.append("metrics", index, {"loss": float(index), "name" * 5: 1.0})
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
refused = 0
for index in range(5):
    try:
        writer.append("metrics", index, {"loss": float(index)})
    except JournalError:
        refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer._retry_at = 0.0
accepted = writer.append("metrics", 1, {"after": 1.0})
print(accepted, refused, writer.lost)
"""
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=180)
    accepted, refused, lost = map(int, ran.stdout.split())
    assert (accepted, refused, lost) == (201, 5, 5)
    assert len(segments(tmp_path)) > 2
    found, reader = read_all(tmp_path)
    assert found == list(range(1, 202))
    assert not reader.damage, "the writer says that nothing in the torn places was accepted"
    assert reader.missing == 0

    first = segments(tmp_path)[0]
    first.write_bytes(first.read_bytes()[:-100])  # as a power cut takes from a file: more than was torn
    found, reader = read_all(tmp_path)
    assert found[-1] == 201
    assert reader.missing == 201 - len(found) > 0
    assert reader.damage[0] == Damage(first.name, reader.damage[0].offset, "torn")


def test_what_was_accepted_survives_sigkill(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from rl_logging.journal import JournalWriter
writer = JournalWriter(Path(sys.argv[1]), "run")
for index in range(10_000):
    seq = writer.append("metrics", index, {"loss": float(index)})
os.write(1, str(seq).encode())
os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, timeout=180)
    assert ran.returncode == -signal.SIGKILL
    assert last_seq(tmp_path) == int(ran.stdout) == 10_000


def test_several_threads_get_rising_seqs(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "run", segment_bytes=5000)
    threads = [
        threading.Thread(target=lambda: [writer.append("metrics", 1, {"a": 1.0}) for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found, reader = read_all(tmp_path)
    assert found == list(range(1, 2001))
    assert not reader.damage


def test_a_signal_handler_may_append_in_the_middle_of_an_append(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "run")
    handled = 0

    def handler(*_: object) -> None:
        nonlocal handled
        handled += 1
        writer.append("metrics", -1, {"signal": 1.0})

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        count = 0
        while handled < 50:
            writer.append("metrics", 1, {"a": 1.0})
            count += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    found, reader = read_all(tmp_path)
    assert found == list(range(1, count + handled + 1))
    assert not reader.damage


def test_a_reopened_journal_goes_on_above_the_floor(tmp_path: Path) -> None:
    write(tmp_path, 3).close()
    writer = JournalWriter(tmp_path, "run", floor=10)
    assert writer.append("metrics", 0, {"a": 1.0}) == 11
    assert JournalWriter(tmp_path, "run").append("metrics", 0, {"a": 1.0}) == 12


def test_an_unwritable_folder_is_told_and_recovers(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        writer = JournalWriter(tmp_path, "run")
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limit[1]))
        try:
            with pytest.raises(JournalError, match="no journal segment can be made"):
                writer.append("metrics", 0, {"a": 1.0})
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    else:
        writer = JournalWriter(tmp_path, "run")
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(JournalError, match="no journal segment can be made"):
                writer.append("metrics", 0, {"a": 1.0})
        finally:
            tmp_path.chmod(0o700)
    with pytest.raises(JournalError, match="a moment ago"):
        writer.append("metrics", 0, {"a": 1.0})
    # The last record has no later: it is tried at once.
    assert writer.seal("end", {"status": "finished"}) == 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_stops_a_reader_nor_invents_a_record(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    write(folder, 30, segment_bytes=400).close()
    truth = {envelope.seq: bytes(envelope.body) for envelope in JournalReader(folder).read(100, final=True)}
    for path in segments(folder):
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, max(0, len(content) - 1)))
            action = data.draw(st.sampled_from(["flip", "cut", "insert"]))
            if action == "flip" and content:
                content[at] ^= data.draw(st.integers(1, 255))
            elif action == "cut":
                del content[at:]
            else:
                content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        path.write_bytes(bytes(content))
    reader = JournalReader(folder)
    seen: list[int] = []
    # A flipped bit may make a header's version a newer one, which is refused.
    with contextlib.suppress(JournalError):
        while batch := reader.read(5, final=True):
            for envelope in batch:
                assert truth[envelope.seq] == bytes(envelope.body)
                seen.append(envelope.seq)
    assert seen == sorted(set(seen))


def test_ctrl_c_in_the_middle_of_an_append_loses_nothing_that_was_written(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "run")
    accepted: list[int | None] = []

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def work(delay_s: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, delay_s)  # fires once, somewhere below
        while True:
            accepted.append(writer.append("metrics", 1, {"a": 1.0}))

    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # in whatever listens to the collector the interruption would be swallowed
    try:
        for number in range(400):
            with contextlib.suppress(KeyboardInterrupt):
                work(0.0003 + number * 1e-6)
    finally:
        gc.enable()
        signal.signal(signal.SIGALRM, before)
    last = writer.append("metrics", 1, {"a": 2.0})
    found, reader = read_all(tmp_path)
    assert set(accepted) <= set(found)
    assert last == found[-1]
    assert reader.missing == 0


def test_a_record_deferred_by_a_signal_that_cannot_be_kept_harms_no_other(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "run")
    write = writer._write

    def interrupted(data: bytes, seq: int) -> str | None:
        writer._write = write  # type: ignore[method-assign]
        assert writer.append("metrics", 1, {"a": object()})
        assert writer.interrupted
        return write(data, seq)

    writer._write = interrupted  # type: ignore[method-assign]
    assert writer.append("metrics", 1, {"a": 1.0}) == 1
    assert writer.append("metrics", 2, {"a": 1.0}) == 2
    assert (writer.lost, writer.interrupted) == (1, False)


def test_a_sealed_journal_accepts_nothing_more(tmp_path: Path) -> None:
    writer = write(tmp_path, 2)
    assert writer.seal("end", {"status": "finished"}) == 3
    assert writer.append("metrics", 1, {"a": 1.0}) is None
    assert writer.seal("end", {"status": "failed"}) is None
    writer.close()
    assert read_all(tmp_path)[0] == [1, 2, 3]


def test_only_regular_files_are_segments(tmp_path: Path) -> None:
    write(tmp_path, 2).close()
    os.mkfifo(tmp_path / "00000009.rlj")
    (tmp_path / "00000010.rlj").symlink_to(tmp_path / "00000001.rlj")
    assert read_all(tmp_path)[0] == [1, 2]


def test_a_reader_that_takes_a_live_writer_for_gone_loses_nothing(tmp_path: Path) -> None:
    total = 4000
    writer = JournalWriter(tmp_path, "run1")
    reader = JournalReader(tmp_path)
    blob = "x" * 3000

    def write() -> None:
        for number in range(1, total):
            writer.append("config", None, {"values": {"blob": blob, "number": number}})

    writer.append("config", None, {"values": {"number": 0}})
    thread = threading.Thread(target=write)
    thread.start()
    found: list[int] = []
    batch, ended = [], False
    while batch or not ended:
        ended = not thread.is_alive()  # asked first: what was written before it ended is there to be read
        batch = reader.read(100, final=True)
        found += [envelope.seq for envelope in batch]
    thread.join()
    assert found == list(range(1, total + 1))
    assert reader.damage == []


def test_large_records_come_a_few_at_a_time(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "run1")
    for _ in range(40):
        writer.append("config", None, {"values": {"blob": "x" * 60_000}})
    reader = JournalReader(tmp_path)
    batches = []
    while batch := reader.read(1000, final=True):
        batches.append(len(batch))
    assert sum(batches) == 40
    assert max(batches) <= 2 * CHUNK_BYTES // 60_000
