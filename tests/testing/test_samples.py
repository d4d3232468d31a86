"""The samples are what they claim to be."""

from __future__ import annotations

import json
from pathlib import Path

import PIL.Image

import rl_logging.testing
from rl_logging.media import materialize
from rl_logging.records import KINDS, End, Image, Model, Video
from rl_logging.testing import sample_context, sample_records
from rl_logging.testing.samples import sample_metrics


def test_every_kind_is_there_with_its_files(tmp_path: Path) -> None:
    records = sample_records(tmp_path / "run", first_seq=5)
    assert {type(record) for record in records} == set(KINDS.values()) - {End}
    assert [record.seq for record in records] == list(range(5, 5 + len(records)))
    assert [record.time for record in records] == sorted(record.time for record in records)
    for record in records:
        for relative in (getattr(record, "path", None), getattr(record, "patch", None)):
            dumped = isinstance(record, (Image, Video))
            assert relative is None or (tmp_path / "run" / relative).exists() is not dumped
        if isinstance(record, Image):
            with PIL.Image.open(materialize(tmp_path / "run", record)) as picture:
                assert (picture.format, picture.size) == ("PNG", (32, 32))
        if isinstance(record, Video):
            assert b"ftyp" in materialize(tmp_path / "run", record).read_bytes()[:16]
        if isinstance(record, Model):
            assert json.loads((tmp_path / "run" / record.path / "metadata.json").read_text())["step"] == record.step


def test_metrics_are_all_different() -> None:
    records = sample_metrics(50, names=4, first_seq=3)
    assert [record.seq for record in records] == list(range(3, 53))
    for name in records[0].values:
        assert len({record.values[name] for record in records}) == 50


def test_contexts_take_changes(tmp_path: Path) -> None:
    context = sample_context(tmp_path / "run", run_id="mine", tags=("a",))
    assert (context.run_id, context.tags, context.run_dir) == ("mine", ("a",), tmp_path / "run")
    assert (tmp_path / "run" / "sinks").is_dir()


def test_the_public_names_are_sorted_and_there() -> None:
    names = rl_logging.testing.__all__
    assert names == sorted(names)
    assert all(getattr(rl_logging.testing, name).__name__ == name for name in names)
