"""The contract of a sink, as a pytest suite to subclass.

.. code-block:: python

    import pytest
    from rl_logging.testing import SinkContract, Stored

    class TestMySink(SinkContract):
        @pytest.fixture
        def make_sink(self, tmp_path):
            return lambda context: MySink(context, tmp_path / "store")

        @pytest.fixture
        def stored(self, tmp_path):
            def read(context, state):
                ...  # read the run state["id"] back, by the store's own means
                return Stored(points=[("train/loss", 10, 0.5)], config={"seed": 7}, status="finished")

            return read

That runs every test that applies to the kinds of records the sink accepts and to what the reader gives.
"""

from __future__ import annotations

from rl_logging.testing.contract.arrival import ArrivalTests
from rl_logging.testing.contract.driver import Driver
from rl_logging.testing.contract.ending import EndingTests
from rl_logging.testing.contract.faults import FaultTests
from rl_logging.testing.contract.names import NameTests
from rl_logging.testing.contract.replay import ReplayTests
from rl_logging.testing.contract.shape import ShapeTests

__all__ = ["Driver", "SinkContract"]


class SinkContract(ShapeTests, ArrivalTests, NameTests, ReplayTests, EndingTests, FaultTests):
    """What every sink must do; subclass it under a name that begins with ``Test``.

    Fixtures to give:

    * ``make_sink``: a callable ``(context) -> Sink`` that makes a new object for the same destination at each call.
    * ``stored``: a callable ``(context, state) -> Stored`` that reads back what the store has of the run, by the
      store's own means; `state` is what the sink's `open` returned last. It may be called while the sink is open.

    Fixtures to give where they fit:

    * ``poison``: a callable ``(context) -> Record`` that returns a record this store refuses; its seq is changed.
      Unless given, it is one whose file is missing, for sinks that accept files.
    * ``outage``: a callable that returns a context manager, inside which the store cannot be reached.
    * ``run_contexts``: a callable ``(**changes) -> SinkContext`` where `sample_context` does not do.

    Attributes:
        timeout_s: For how many seconds something that must happen is awaited.
        tolerance: Largest relative error of a stored value: 0, or what the store's number format loses.
        status_as: What the store calls each status, where it cannot tell all three apart.
    """
