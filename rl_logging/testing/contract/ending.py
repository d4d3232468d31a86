"""A run ends with the status that is true, or is let go without ending."""

from __future__ import annotations

import pytest

from rl_logging.records import Metrics, RunStatus
from rl_logging.testing.contract.base import ContractBase, MakeContext, MakeSink, ReadStored, Start
from rl_logging.testing.samples import sample_metrics, sample_records

STATUSES: tuple[RunStatus, ...] = ("finished", "failed", "killed")


class EndingTests(ContractBase):
    """See `rl_logging.testing.SinkContract`."""

    @pytest.mark.parametrize("status", STATUSES)
    def test_the_status_is_the_one_given(self, start: Start, stored: ReadStored, status: RunStatus) -> None:
        """The store shows the status that `close` was given."""
        driver = start()
        driver.write(sample_records(driver.context.run_dir))
        driver.settle()
        driver.close(status)
        found = self.known(stored(driver.context, driver.state).status, "status")
        assert found == self.status_as[status]

    def test_closing_again_changes_nothing(self, start: Start, stored: ReadStored) -> None:
        """`close` is idempotent."""
        driver = start()
        self.need(driver, Metrics)
        records = sample_metrics(3)
        driver.write(records)
        driver.settle()
        driver.close("failed")
        driver.close("failed")
        driver.close(None)
        found = stored(driver.context, driver.state)
        self.expect_points(driver, found, records)
        if found.status is not None:
            assert found.status == self.status_as["failed"]

    def test_confirmed_still_answers_after_close(self, start: Start) -> None:
        """After `close`, `confirmed` answers as before."""
        driver = start()
        records = sample_records(driver.context.run_dir)
        driver.write(records)
        driver.settle()
        driver.close("finished")
        assert driver.confirmed() >= driver.handed

    def test_a_run_in_which_nothing_was_logged(self, start: Start, stored: ReadStored) -> None:
        """A run without a record ends like any other."""
        driver = start()
        driver.close("finished")
        found = stored(driver.context, driver.state)
        assert not found.points, "a run in which nothing was logged has points"
        if found.status is not None:
            assert found.status == self.status_as["finished"]

    def test_a_sink_that_was_never_opened_can_be_closed(self, make_sink: MakeSink, run_contexts: MakeContext) -> None:
        """As when `open` failed."""
        make_sink(run_contexts()).close(None)

    def test_letting_go_does_not_end_the_run(self, start: Start, stored: ReadStored) -> None:
        """`close(None)` leaves the run as it is, and a new object ends it."""
        first = start()
        self.need(first, Metrics)
        records = sample_metrics(6)
        first.write(records[:3])
        first.settle()
        first.close(None)
        between = stored(first.context, first.state).status
        assert between in (None, "running"), f"close(None) must not end the run; it is {between}"
        second = start(first.context, first.state)
        second.write(records[3:])
        second.settle()
        second.close("finished")
        found = stored(second.context, second.state)
        self.expect_points(second, found, records)
        if found.status is not None:
            assert found.status == self.status_as["finished"]

    def test_an_ended_run_can_be_opened_and_ended_again(self, start: Start, stored: ReadStored) -> None:
        """As when delivery ended before it could note that it was done."""
        first = start()
        self.need(first, Metrics)
        records = sample_metrics(6)
        first.write(records[:4])
        first.settle()
        first.close("failed")
        second = start(first.context, first.state)
        second.write(records[2:])
        second.settle()
        second.close("failed")
        assert second.state["id"] == first.state["id"]
        found = stored(second.context, second.state)
        self.expect_points(second, found, records)
        if found.status is not None:
            assert found.status == self.status_as["failed"]
