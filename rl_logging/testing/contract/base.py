"""What the parts of the contract share: fixtures, and comparing what was sent with what is stored."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from rl_logging.media import materialize
from rl_logging.records import Artifact, Image, Metrics, Model, Record, RunStatus, Video
from rl_logging.sinks import Sink, SinkContext
from rl_logging.testing.contract.driver import Driver
from rl_logging.testing.ledger import MemoryLedger
from rl_logging.testing.samples import BEGAN, sample_context
from rl_logging.testing.stored import Stored

MakeSink = Callable[[SinkContext], Sink]
ReadStored = Callable[[SinkContext, Mapping[str, Any]], Stored]
MakeContext = Callable[..., SinkContext]
Start = Callable[..., Driver]
MakeRecord = Callable[[SinkContext], Record]
Outage = Callable[[], contextlib.AbstractContextManager[object]]

SHOWN = 5


class ContractBase:
    """Fixtures and comparisons; see `rl_logging.testing.SinkContract`."""

    timeout_s: ClassVar[float] = 10.0
    tolerance: ClassVar[float] = 0.0
    status_as: ClassVar[Mapping[RunStatus, str]] = {"finished": "finished", "failed": "failed", "killed": "killed"}

    @pytest.fixture
    def make_sink(self) -> MakeSink:
        """To be given: makes a new sink object for the same destination."""
        pytest.fail(f"{type(self).__name__} must give a fixture make_sink: a callable (context) -> Sink")

    @pytest.fixture
    def stored(self) -> ReadStored:
        """To be given: reads back what the store has of a run."""
        pytest.fail(f"{type(self).__name__} must give a fixture stored: a callable (context, state) -> Stored")

    @pytest.fixture
    def poison(self, make_sink: MakeSink, run_contexts: MakeContext) -> MakeRecord | None:
        """Makes a record the store refuses; unless given, one whose file is missing."""
        accepts = make_sink(run_contexts()).accepts
        for kind in (Image, Video, Artifact, Model):
            if kind in accepts:
                missing = kind(seq=1, time=BEGAN, step=1, name="gone", path="media/gone/step_1.png")
                return lambda context: missing
        return None

    @pytest.fixture
    def outage(self) -> Outage | None:
        """Makes a context manager inside which the store cannot be reached."""
        return None

    @pytest.fixture
    def run_contexts(self, tmp_path: Path) -> MakeContext:
        """Makes contexts; each `run_id` has a run directory of its own."""

        def make(**changes: Any) -> SinkContext:
            run_id = changes.setdefault("run_id", "sample01")
            return sample_context(tmp_path / "rl_runs" / f"run-{run_id}", **changes)

        return make

    @pytest.fixture
    def start(self, make_sink: MakeSink, run_contexts: MakeContext) -> Iterator[Start]:
        """Makes a new sink object, and opens it; those left open are let go at the end."""
        started: list[Driver] = []

        def start(context: SinkContext | None = None, state: Mapping[str, Any] | None = None) -> Driver:
            context = context or run_contexts()
            driver = Driver(make_sink(context), context, self.timeout_s)
            started.append(driver)
            driver.open(state)
            return driver

        yield start
        for driver in started:
            driver.sink.close(None)

    # -- comparing ----------------------------------------------------------------------------------------------

    def need(self, driver: Driver, kind: type[Record]) -> None:
        """Skips the test for a sink that does not accept `kind`."""
        if kind not in driver.sink.accepts:
            pytest.skip(f"the sink does not accept {kind.__name__} records")

    def known(self, value: Any, what: str) -> Any:
        """Skips the test where the reader says the store has no notion of `what`; else returns `value`."""
        if value is None:
            pytest.skip(f"the store has no notion of {what}: Stored.{what} is None")
        return value

    def expect_points(self, driver: Driver, stored: Stored, records: Iterable[Record]) -> None:
        """Checks that the store has each value of `records` once, and nothing else."""
        names = ledger_of(driver).renames
        sent = Counter(
            (names.get(name, name), record.step, self.rounded(value))
            for record in records
            if isinstance(record, Metrics)
            for name, value in record.values.items()
        )
        there = Counter((name, step, self.rounded(value)) for name, step, value in self.known(stored.points, "points"))
        wrong = []
        if sent - there:
            wrong.append(f"the store lacks {some((sent - there).elements())}")
        if there - sent:
            wrong.append(f"it has, without its having been sent or too often, {some((there - sent).elements())}")
        assert not wrong, f"of {sum(sent.values())} points (name, step, value) sent, {'; '.join(wrong)}"

    def rounded(self, value: float) -> float | str:
        """Returns a value so that stored and sent ones compare: NaN equals itself, and `tolerance` is allowed for."""
        if math.isnan(value):
            return "nan"
        if self.tolerance and math.isfinite(value) and value:
            return float(f"{value:.{max(0, int(-math.log10(self.tolerance)) - 1)}e}")
        return float(value)

    def expect_files(self, driver: Driver, found: Sequence[tuple[Any, ...]], records: Sequence[Record]) -> None:
        """Checks that the store has each image, video, model or artifact of `records` once, and unharmed."""
        left = [*found]
        for record in records:
            name, step = stored_name(driver, getattr(record, "name", "")), record.step
            match = next((item for item in left if item[0] == name and _step_of(item) in (None, step)), None)
            there = some((item[0], _step_of(item)) for item in left)
            assert match is not None, f"no {record.kind} {name!r} of step {step} is stored; there is {there}"
            left.remove(match)
            _expect_content(driver.context, record, match)
        surplus = some((item[0], _step_of(item)) for item in left)
        assert not left, f"stored without having been sent, or twice: {surplus}"


def ledger_of(driver: Driver) -> MemoryLedger:
    """Returns the ledger of the sink's context, which is a `MemoryLedger` in this suite."""
    ledger = driver.context.ledger
    assert isinstance(ledger, MemoryLedger), "the fixture run_contexts must give contexts with a MemoryLedger"
    return ledger


def stored_name(driver: Driver, name: str) -> str:
    """Returns what the store calls `name`, as the sink told."""
    return ledger_of(driver).renames.get(name, name)


def numbered(records: Iterable[Record], first_seq: int = 1) -> list[Record]:
    """Returns `records` with rising seqs and times."""
    return [
        msgspec.structs.replace(record, seq=first_seq + index, time=BEGAN + first_seq + index)
        for index, record in enumerate(records)
    ]


def some(items: Iterable[object]) -> str:
    """Returns the first of `items` as text."""
    shown = list(items)
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return f"{shown[:SHOWN]}{more}" if shown else "nothing"


def _step_of(item: tuple[Any, ...]) -> int | None:
    return item[1] if len(item) > 1 else None


def _expect_content(context: SinkContext, record: Record, item: tuple[Any, ...]) -> None:
    given = item[2] if len(item) > 2 else None
    if given is not None:
        if isinstance(record, (Image, Video)):
            assert given == materialize(context.run_dir, record).read_bytes(), (
                f"{record.kind} {item[0]!r} has other bytes"
            )
        else:
            _expect_files_of(context.run_dir / str(getattr(record, "path", "")), given, record.kind)
    metadata = item[3] if len(item) > 3 else None
    if metadata is not None:
        expected = getattr(record, "metadata", {})
        lacking = {key: value for key, value in expected.items() if metadata.get(key) != value}
        assert not lacking, f"the metadata of {record.kind} {item[0]!r} lacks {lacking}"


def _expect_files_of(source: Path, given: Mapping[str, bytes], kind: str) -> None:
    if source.is_file():
        assert source.read_bytes() in given.values(), f"the stored {kind} has no file with the bytes sent"
        return
    for path in sorted(source.rglob("*")):
        if path.is_file():
            relative = path.relative_to(source).as_posix()
            assert given.get(relative) == path.read_bytes(), f"{relative} of the {kind} is not stored unharmed"
