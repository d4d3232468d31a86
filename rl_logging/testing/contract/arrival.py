"""Whatever is handed over arrives: every kind, every value, once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rl_logging.records import Artifact, Config, Environment, Image, Labels, Metrics, Model, Record, Video
from rl_logging.testing.contract.base import ContractBase, MakeContext, ReadStored, Start, ledger_of, numbered
from rl_logging.testing.contract.driver import Driver
from rl_logging.testing.samples import BEGAN, sample_metrics, sample_records
from rl_logging.testing.stored import Stored

FILE_KINDS = {Image: "images", Video: "videos", Model: "models", Artifact: "artifacts"}


class ArrivalTests(ContractBase):
    """See `rl_logging.testing.SinkContract`."""

    def test_what_is_confirmed_is_stored(self, start: Start, stored: ReadStored) -> None:
        """What `confirmed` tells is in the store, while the sink is still open."""
        driver = start()
        self.need(driver, Metrics)
        records = sample_metrics(10)
        driver.write(records)
        driver.settle()
        assert driver.confirmed() == records[-1].seq, "confirmed() told more than was handed over"
        self.expect_points(driver, stored(driver.context, driver.state), records)

    def test_every_kind_arrives(self, start: Start, stored: ReadStored) -> None:
        """Every kind of record that is accepted arrives, with its values and files unharmed."""
        driver = start()
        records = sample_records(driver.context.run_dir)
        self._deliver(driver, records)
        found = stored(driver.context, driver.state)
        taken = [record for record in records if type(record) in driver.sink.accepts]
        if found.points is not None:
            self.expect_points(driver, found, taken)
        for kind, attribute in FILE_KINDS.items():
            items = getattr(found, attribute)
            if items is not None:
                self.expect_files(driver, items, [record for record in taken if type(record) is kind])
        if found.config is not None and Config in driver.sink.accepts:
            _expect_config(found.config, taken)
        if found.environment is not None and Environment in driver.sink.accepts:
            told = " ".join(found.environment)
            for name in ("environment.json", "diff.patch"):
                assert name in told, f"{name} did not arrive: there is {told or 'nothing'}"
        assert _knows_something(found), "the reader gave a Stored without anything: every attribute is None"

    @pytest.mark.parametrize("kind", [Metrics, Config, Image, Video, Model, Artifact, Environment, Labels])
    def test_a_kind_alone_is_confirmed(self, start: Start, kind: type[Record]) -> None:
        """Each accepted kind is confirmed without help from another."""
        driver = start()
        self.need(driver, kind)
        records = [record for record in sample_records(driver.context.run_dir) if type(record) is kind]
        driver.write(numbered(records))
        driver.settle()

    def test_batches_of_all_sizes(self, start: Start, stored: ReadStored) -> None:
        """Batches of one record and of hundreds arrive alike."""
        driver = start()
        self.need(driver, Metrics)
        records = sample_metrics(400, names=3)
        for first, last in ((0, 1), (1, 3), (3, 50), (50, 51), (51, 400)):
            driver.write(records[first:last])
        driver.settle()
        driver.close("finished")
        self.expect_points(driver, stored(driver.context, driver.state), records)

    def test_a_record_with_many_values(self, start: Start, stored: ReadStored) -> None:
        """A record of more values than stores like to take at once arrives whole."""
        driver = start()
        self.need(driver, Metrics)
        records = sample_metrics(1, names=1001)
        self._deliver(driver, records)
        self.expect_points(driver, stored(driver.context, driver.state), records)

    def test_not_a_number_and_infinity_do_not_harm_the_rest(self, start: Start, stored: ReadStored) -> None:
        """NaN and the infinities arrive, or are told of; the values beside them arrive."""
        driver = start()
        self.need(driver, Metrics)
        odd = {"odd/nan": math.nan, "odd/inf": math.inf, "odd/minus_inf": -math.inf}
        plain = sample_metrics(3)
        with_odd = [
            *plain[:1],
            Metrics(seq=2, time=BEGAN + 2, step=20, values={"first": 1.5, **odd, "last": 2.5}),
            *(numbered(plain[2:], 3)),
        ]
        self._deliver(driver, with_odd)
        found = stored(driver.context, driver.state)
        points = self.known(found.points, "points")
        rest = [point for point in points if not point[0].startswith("odd")]
        without_odd = [plain[0], Metrics(seq=2, time=0.0, step=20, values={"first": 1.5, "last": 2.5}), with_odd[2]]
        self.expect_points(driver, Stored(points=rest), without_odd)
        for name in odd:
            assert found.series(name) or ledger_of(driver).mentions(name), (
                f"{name} vanished, and the ledger says nothing"
            )

    def test_steps_may_be_anything(self, start: Start, stored: ReadStored) -> None:
        """They go back (a second `learn()`, an evaluation that ends late), stand still, are negative, and large."""
        driver = start()
        self.need(driver, Metrics)
        steps = (10, 20, 5, 0, 20, 30, 30, -1, 3_000_000_000, 31)
        records = [
            Metrics(seq=seq, time=BEGAN + seq, step=step, values={"train/loss": seq / 8})
            for seq, step in enumerate(steps, start=1)
        ]
        self._deliver(driver, records)
        self.expect_points(driver, stored(driver.context, driver.state), records)

    def test_a_record_without_a_step_arrives(self, start: Start, stored: ReadStored) -> None:
        """A record whose step is None arrives."""
        driver = start()
        self.need(driver, Metrics)
        records = [
            Metrics(seq=1, time=BEGAN + 1, step=10, values={"train/loss": 1.0}),
            Metrics(seq=2, time=BEGAN + 2, step=None, values={"train/loss": 2.0, "stepless": 3.0}),
            Metrics(seq=3, time=BEGAN + 3, step=20, values={"train/loss": 4.0}),
        ]
        self._deliver(driver, records)
        points = self.known(stored(driver.context, driver.state).points, "points")
        assert sorted((name, value) for name, _, value in points) == [
            ("stepless", 3.0),
            ("train/loss", 1.0),
            ("train/loss", 2.0),
            ("train/loss", 4.0),
        ]

    def test_equal_points_are_kept_or_counted(self, start: Start, stored: ReadStored) -> None:
        """Two records may say the same; a store that keeps one of them has to say so."""
        driver = start()
        self.need(driver, Metrics)
        records = [Metrics(seq=seq, time=BEGAN, step=10, values={"train/loss": 0.5}) for seq in (1, 2, 3)]
        self._deliver(driver, records)
        there = len(self.known(stored(driver.context, driver.state).points, "points"))
        assert there >= 1
        assert there + ledger_of(driver).merges == len(records), "a point vanished, and ledger.merged() was not told"

    def test_a_later_value_of_a_configuration_key(self, start: Start, stored: ReadStored) -> None:
        """Parts of a configuration add up; a key given again is changed, or told of."""
        driver = start()
        self.need(driver, Config)
        records = [
            Config(seq=1, time=BEGAN + 1, values={"seed": 1, "net": {"layers": 2}}),
            Config(seq=2, time=BEGAN + 2, values={"seed": 2, "net": {"width": 64}}),
            Config(seq=3, time=BEGAN + 3, values={"late": True}),
        ]
        self._deliver(driver, records)
        there = dict(_flat(self.known(stored(driver.context, driver.state).config, "config")))
        for name, value in (("net/layers", 2), ("net/width", 64), ("late", True)):
            assert _same(there.get(name), value), f"{name} is {there.get(name)!r}, sent was {value!r}"
        assert _same(there.get("seed"), 2) or ledger_of(driver).mentions("seed"), "the changed key 'seed' was not told"

    def test_an_odd_configuration_does_not_harm_the_rest(self, start: Start, stored: ReadStored) -> None:
        """None, lists, long texts and odd keys do not keep other keys from arriving."""
        driver = start()
        self.need(driver, Config)
        odd: dict[str, Any] = {
            "none": None,
            "list": [1, [2.5, "x"]],
            "empty": {},
            "long": "x" * 20_000,
            "a (b) [c]": 1,
            "größe": "ü",
        }
        records = [
            Config(seq=1, time=BEGAN + 1, values={"first": 1, **odd, "last": "z"}),
            Config(seq=2, time=BEGAN + 2, values={"after": 2}),
        ]
        self._deliver(driver, records)
        there = dict(_flat(self.known(stored(driver.context, driver.state).config, "config")))
        for name, value in (("first", 1), ("last", "z"), ("after", 2)):
            assert _same(there.get(name), value), f"{name} is {there.get(name)!r}, sent was {value!r}"

    @pytest.mark.parametrize("kind", list(FILE_KINDS))
    def test_one_name_at_several_steps_is_several_things(
        self, start: Start, stored: ReadStored, kind: type[Record]
    ) -> None:
        """Pictures, videos, models and artifacts of one name are kept for each step."""
        driver = start()
        self.need(driver, kind)
        samples = [record for record in sample_records(driver.context.run_dir) if type(record) is kind][:1]
        records = numbered([_at_step(record, step) for record in samples for step in (10, 20, 5)])
        self._deliver(driver, records)
        attribute = FILE_KINDS[kind]
        items = self.known(getattr(stored(driver.context, driver.state), attribute), attribute)
        self.expect_files(driver, items, records)

    def test_tags_and_notes(self, start: Start, stored: ReadStored, run_contexts: MakeContext) -> None:
        """The tags and notes of the context are there, and those set later replace them."""
        driver = start(run_contexts(tags=("before", "both"), notes="Before."))
        self.need(driver, Metrics)
        driver.write(sample_metrics(1))
        driver.settle()
        found = stored(driver.context, driver.state)
        assert set(self.known(found.tags, "tags")) == {"before", "both"}
        assert found.notes in (None, "Before.")
        if Labels in driver.sink.accepts:
            driver.write([Labels(seq=2, time=BEGAN + 2, tags=("both", "after"))])
            driver.write([Labels(seq=3, time=BEGAN + 3, notes="After.")])
            driver.settle()
            driver.close("finished")
            found = stored(driver.context, driver.state)
            assert set(found.tags or ()) == {"both", "after"}, "Labels.tags replaces the set as a whole"
            assert found.notes in (None, "After.")

    def _deliver(self, driver: Driver, records: list[Any]) -> None:
        driver.write(records)
        driver.settle()
        driver.close("finished")


def _at_step(record: Record, step: int) -> Record:
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return type(record)(**{**fields, "step": step})


def _knows_something(found: Stored) -> bool:
    return any(value is not None for value in vars(found).values())


def _expect_config(config: Mapping[str, Any], records: list[Record]) -> None:
    there = dict(_flat(config))
    for record in records:
        if isinstance(record, Config):
            for name, value in _flat(record.values):
                assert _same(there.get(name), value), f"config {name!r} is {there.get(name)!r}, sent was {value!r}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _same(there: Any, sent: Any) -> bool:
    """Whether a stored value is the one sent, or its text."""
    if there == sent or there == str(sent):
        return True
    try:
        return bool(json.loads(there) == sent)
    except (TypeError, ValueError):
        return False
