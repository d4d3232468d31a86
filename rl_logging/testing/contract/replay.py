"""After a crash, records are handed over again: nothing may be there twice, and nothing may be missing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rl_logging.records import Metrics, Record
from rl_logging.sinks import SinkContext
from rl_logging.testing.contract.arrival import FILE_KINDS
from rl_logging.testing.contract.base import ContractBase, MakeContext, MakeSink, ReadStored, Start
from rl_logging.testing.contract.driver import Driver
from rl_logging.testing.samples import sample_metrics, sample_records


class ReplayTests(ContractBase):
    """See `rl_logging.testing.SinkContract`."""

    def test_a_new_object_goes_on_in_the_same_run(self, start: Start, stored: ReadStored) -> None:
        """A new object that is opened with the kept state adds to the same remote run."""
        first = start()
        self.need(first, Metrics)
        records = sample_metrics(20)
        first.write(records[:10])
        first.settle()
        first.close(None)
        second = start(first.context, first.state)
        assert second.state["id"] == first.state["id"], "a sink opened with the kept state must go on in that run"
        second.write(records[10:])
        second.settle()
        second.close("finished")
        self.expect_points(second, stored(second.context, second.state), records)

    @pytest.mark.parametrize("confirmed", [True, False], ids=["confirmed", "unconfirmed"])
    def test_a_repeat_after_reopening_stores_nothing_twice(
        self, start: Start, stored: ReadStored, confirmed: bool
    ) -> None:
        """After a crash, what had been stored and is handed over again is there once."""
        first = start()
        self.need(first, Metrics)
        records = sample_metrics(30, names=2)
        first.write(records[:20])
        if confirmed:
            first.settle()
        first.close(None)
        second = start(first.context, first.state)
        second.write(records[8:14] if confirmed else records[:14])
        second.write(records[14:])
        second.settle()
        second.close("finished")
        self.expect_points(second, stored(second.context, second.state), records)

    def test_a_repeat_by_the_same_object_stores_nothing_twice(self, start: Start, stored: ReadStored) -> None:
        """As after a `TransientError` when some, or all, had been stored."""
        driver = start()
        self.need(driver, Metrics)
        records = sample_metrics(20)
        driver.write(records[:10])
        driver.write(records[:10])
        driver.write(records[5:])
        driver.settle()
        driver.close("finished")
        self.expect_points(driver, stored(driver.context, driver.state), records)

    def test_a_repeat_of_every_kind_stores_nothing_twice(self, start: Start, stored: ReadStored) -> None:
        """That holds for files and configuration as well."""
        first = start()
        records = sample_records(first.context.run_dir)
        first.write(records)
        first.settle()
        first.close(None)
        second = start(first.context, first.state)
        second.write(records)
        second.settle()
        second.close("finished")
        found = stored(second.context, second.state)
        taken = [record for record in records if type(record) in second.sink.accepts]
        if found.points is not None:
            self.expect_points(second, found, taken)
        for kind, attribute in FILE_KINDS.items():
            items = getattr(found, attribute)
            if items is not None:
                self.expect_files(second, items, [record for record in taken if type(record) is kind])

    def test_opening_again_without_the_state_finds_the_run(self, start: Start) -> None:
        """As after a crash between `open` and the moment its answer was kept."""
        first = start()
        first.close(None)
        second = start(first.context, None)
        assert second.state["id"] == first.state["id"], "a second remote run was made for one and the same run_id"

    def test_the_state_of_a_reopened_run_opens_it_again(self, start: Start, stored: ReadStored) -> None:
        """Each `open` returns a state that the next one can go on from."""
        first = start()
        self.need(first, Metrics)
        records = sample_metrics(9)
        driver = first
        for index in range(3):
            if index:
                driver = start(first.context, driver.state)
            driver.write(records[3 * index : 3 * index + 3])
            driver.settle()
            driver.close(None)
        assert driver.state["id"] == first.state["id"]
        self.expect_points(driver, stored(driver.context, driver.state), records)

    def test_two_runs_side_by_side_do_not_mix(
        self, make_sink: MakeSink, stored: ReadStored, run_contexts: MakeContext
    ) -> None:
        """Each in a thread of its own, as in a delivery process that serves several runs."""
        contexts = [run_contexts(run_id=run_id, name=f"run {run_id}") for run_id in ("left0001", "right002")]
        if any(Metrics not in make_sink(context).accepts for context in contexts):
            pytest.skip("the sink does not accept Metrics records")
        meet = threading.Barrier(2)
        rows: list[list[Any]] = [sample_metrics(20, name="side"), sample_metrics(30, name="side")]

        def deliver(context: SinkContext, records: list[Record]) -> Driver:
            driver = Driver(make_sink(context), context, self.timeout_s)
            try:
                driver.open()
                for part in (records[:7], records[7:13], records[13:]):
                    meet.wait(self.timeout_s)
                    driver.write(part)
                driver.settle()
                driver.close("finished")
            except BaseException:
                meet.abort()
                driver.sink.close(None)
                raise
            return driver

        with ThreadPoolExecutor(2) as pool:
            left, right = pool.map(deliver, contexts, rows)
        assert left.state["id"] != right.state["id"], "two runs share one remote run"
        self.expect_points(left, stored(left.context, left.state), rows[0])
        self.expect_points(right, stored(right.context, right.state), rows[1])
