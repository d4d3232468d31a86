"""What a store refuses harms nothing else, and what it cannot take now is taken later."""

from __future__ import annotations

import msgspec
import pytest

from rl_logging.records import Metrics
from rl_logging.sinks import RejectedError, TransientError
from rl_logging.testing.contract.base import ContractBase, MakeContext, MakeRecord, MakeSink, Outage, ReadStored, Start
from rl_logging.testing.contract.driver import Driver
from rl_logging.testing.samples import BEGAN, sample_metrics


class FaultTests(ContractBase):
    """See `rl_logging.testing.SinkContract`."""

    def test_a_refused_record_is_named_and_the_others_arrive(
        self, start: Start, stored: ReadStored, poison: MakeRecord | None
    ) -> None:
        """`RejectedError`, of `write` or later of `confirmed`, names the refused record; the rest arrives."""
        if poison is None:
            pytest.skip("no fixture 'poison': no record is known that this store refuses")
        driver = start()
        refused = msgspec.structs.replace(poison(driver.context), seq=3, time=BEGAN + 3)
        self.need(driver, type(refused))
        good = [record for record in sample_metrics(6) if record.seq != refused.seq]
        with pytest.raises(RejectedError) as caught:
            driver.deliver([*good[:2], refused, *good[2:4]])
        assert [record.seq for record in caught.value.records] == [refused.seq], "RejectedError.records names others"
        assert str(caught.value), "RejectedError must say why, in the store's words"
        driver.write(good[4:])
        driver.settle()
        driver.close("finished")
        if Metrics in driver.sink.accepts:
            self.expect_points(driver, stored(driver.context, driver.state), good)

    def test_a_refused_record_alone_does_not_stop_the_run(
        self, start: Start, stored: ReadStored, poison: MakeRecord | None
    ) -> None:
        """After a batch that was refused whole, the next one arrives."""
        if poison is None:
            pytest.skip("no fixture 'poison': no record is known that this store refuses")
        driver = start()
        refused = msgspec.structs.replace(poison(driver.context), seq=1, time=BEGAN + 1)
        self.need(driver, type(refused))
        with pytest.raises(RejectedError):
            driver.deliver([refused])
        good = sample_metrics(3, first_seq=2)
        driver.write(good)
        driver.settle()
        driver.close("finished")
        if Metrics in driver.sink.accepts:
            self.expect_points(driver, stored(driver.context, driver.state), good)

    def test_an_outage_while_opening_is_transient(
        self, make_sink: MakeSink, run_contexts: MakeContext, outage: Outage | None
    ) -> None:
        """`open` raises `TransientError` while the store is away, and works once it is back."""
        if outage is None:
            pytest.skip("no fixture 'outage': the store cannot be made unreachable")
        context = run_contexts()
        sink = make_sink(context)
        with outage(), pytest.raises(TransientError):
            sink.open(None)
        sink.close(None)
        driver = Driver(make_sink(context), context, self.timeout_s)
        driver.open()
        driver.close("finished")

    def test_an_outage_while_writing_loses_and_repeats_nothing(
        self, start: Start, stored: ReadStored, outage: Outage | None
    ) -> None:
        """What was written into an outage is there once after it."""
        if outage is None:
            pytest.skip("no fixture 'outage': the store cannot be made unreachable")
        driver = start()
        self.need(driver, Metrics)
        records = sample_metrics(30)
        driver.write(records[:10])
        driver.settle()
        failed = False
        with outage():
            try:
                driver.sink.write(records[10:20])
            except TransientError:
                failed = True
        # A sink may also keep them itself and confirm them later.
        driver.write(records[10:] if failed else records[20:])
        driver.settle()
        driver.close("finished")
        self.expect_points(driver, stored(driver.context, driver.state), records)
