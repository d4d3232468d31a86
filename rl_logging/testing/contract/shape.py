"""What a sink looks like from outside, before anything is delivered."""

from __future__ import annotations

from rl_logging.records import KINDS
from rl_logging.sinks import Sink
from rl_logging.testing.contract.base import ContractBase, MakeContext, MakeSink, Start


class ShapeTests(ContractBase):
    """See `rl_logging.testing.SinkContract`."""

    def test_is_a_sink(self, make_sink: MakeSink, run_contexts: MakeContext) -> None:
        """It has the attributes of `rl_logging.sinks.Sink`."""
        sink = make_sink(run_contexts())
        missing = [name for name in ("accepts", "open", "write", "confirmed", "close") if not hasattr(sink, name)]
        assert not missing, f"a sink has {', '.join(missing)}"
        assert isinstance(sink, Sink)

    def test_each_call_of_make_sink_makes_a_new_object(self, make_sink: MakeSink, run_contexts: MakeContext) -> None:
        """The fixture `make_sink` is what this suite takes it for."""
        context = run_contexts()
        assert make_sink(context) is not make_sink(context), "make_sink must make a new object at each call"

    def test_accepts_record_types(self, make_sink: MakeSink, run_contexts: MakeContext) -> None:
        """`accepts` is a frozenset of record types."""
        accepts = make_sink(run_contexts()).accepts
        assert isinstance(accepts, frozenset)
        assert accepts, "a sink that accepts nothing delivers nothing"
        strangers = accepts - set(KINDS.values())
        assert not strangers, f"accepts must hold record types of rl_logging.records, not {strangers}"

    def test_open_returns_an_id_and_json_values(self, start: Start) -> None:
        """`open` returns the remote run's id, and nothing that JSON does not keep."""
        state = start().state  # the driver checks that JSON keeps it
        assert state.get("id"), f"open() must return the remote run's id under 'id'; it returned {state}"
        assert isinstance(state.get("url"), (str, type(None))), "'url' is a text, or absent"

    def test_nothing_is_confirmed_before_anything_was_written(self, start: Start) -> None:
        """`confirmed` is 0 in the beginning."""
        assert start().confirmed() == 0
