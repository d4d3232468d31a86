"""The contract suite on sinks with one fault each: the test that is there for it must fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rl_logging.testing import SinkContract

SUITE = """
import msgspec
import pytest
from rl_logging.records import Config, Image, Metrics, Model
from rl_logging.sinks import RejectedError, TransientError
from rl_logging.testing import MemorySink, MemoryStore, SinkContract, Stored

class OnMemory(SinkContract):
    timeout_s = 0.3
    sink = MemorySink

    @pytest.fixture
    def store(self):
        return MemoryStore()

    @pytest.fixture
    def make_sink(self, store):
        return lambda context: self.sink(context, store)

    @pytest.fixture
    def stored(self, store):
        def read(context, state):
            run = store.run(state["id"])
            images = [(r.name, r.step) for r in run.records.values() if type(r) is Image]
            models = [(r.name, r.step) for r in run.records.values() if type(r) is Model]
            return Stored(points=run.points, config=run.config, images=images, models=models, status=run.status)
        return read

    @pytest.fixture
    def poison(self, store):
        store.reject(lambda record: type(record) is Image and record.name == "gone")
        return lambda context: Image(seq=1, time=0.0, step=1, name="gone", path="gone")
"""

FAULTY = """
class TestFault{number}(OnMemory):
    class sink(MemorySink):
        {fault}
"""

APPENDS = """calls = []
    def write(self, batch):
        self.calls.append(1)
        super().write([msgspec.structs.replace(r, seq=r.seq + 1000 * len(self.calls)) for r in batch])"""

FAULTS = {
    "a method is missing": ("test_is_a_sink", "confirmed = property()\n"),
    "accepts is a set": (
        "test_accepts_record_types",
        "accepts = property(lambda self: {Metrics}, lambda self, v: None)",
    ),
    "no id": ("test_open_returns_an_id", "def open(self, state): super().open(state); return {'url': 'x'}"),
    "the state is not JSON": (
        "test_open_returns_an_id",
        "def open(self, state): return {**super().open(state), 'client': object()}",
    ),
    "the state changes by JSON": (
        "test_open_returns_an_id",
        "def open(self, state): return {**super().open(state), 1: 'a'}",
    ),
    "never confirms": ("test_what_is_confirmed_is_stored", "def confirmed(self): return 0"),
    "confirms before it was written": ("test_nothing_is_confirmed", "def confirmed(self): return 10"),
    "confirms too much": (
        "test_what_is_confirmed_is_stored",
        "def confirmed(self): return super().confirmed() + 5",
    ),
    "confirms, and forgets": (
        "test_what_is_confirmed_is_stored",
        "def write(self, batch): super().write([*batch[:3], *batch[4:]])",
    ),
    "drops a kind": (
        "test_every_kind_arrives",
        "def write(self, batch): super().write([r for r in batch if type(r) is not Model])",
    ),
    "drops a part of the configuration": (
        "test_a_later_value_of_a_configuration_key",
        "def write(self, batch): super().write([r for r in batch if not (type(r) is Config and 'late' in r.values)])",
    ),
    "drops a large batch's end": ("test_batches_of_all_sizes", "def write(self, batch): super().write(batch[:100])"),
    "drops values beyond a thousand": (
        "test_a_record_with_many_values",
        "def write(self, batch): super().write([msgspec.structs.replace(r, values=dict(list(r.values.items())[:1000]))"
        " for r in batch])",
    ),
    "drops a record with NaN": (
        "test_not_a_number",
        "def write(self, batch): super().write([r for r in batch if all(v == v for v in r.values.values())])",
    ),
    "drops NaN without a word": (
        "test_not_a_number",
        "def write(self, batch): super().write([msgspec.structs.replace(r, values={k: v for k, v in r.values.items()"
        " if v == v}) for r in batch])",
    ),
    "drops steps that go back": (
        "test_steps_may_be_anything",
        """top = -10
    def write(self, batch):
        kept = []
        for r in batch:
            if r.step >= self.top: kept.append(r); self.top = r.step
        super().write(kept)""",
    ),
    "drops what has no step": (
        "test_a_record_without_a_step",
        "def write(self, batch): super().write([r for r in batch if r.step is not None])",
    ),
    "merges equal points without a word": (
        "test_equal_points",
        "def write(self, batch): super().write(list({str(r.values): r for r in batch}.values()))",
    ),
    "keeps one picture of a name": (
        "test_one_name_at_several_steps",
        "def write(self, batch): super().write(list({r.name: r for r in batch}.values()))",
    ),
    "drops odd names": (
        "test_odd_names_arrive",
        "def write(self, batch): super().write([msgspec.structs.replace(r, values={k: v for k, v in r.values.items()"
        " if '(' not in k}) for r in batch])",
    ),
    "renames without a word": (
        "test_odd_names_arrive",
        "def write(self, batch): super().write([msgspec.structs.replace(r, values={k.replace('(', '_'): v"
        " for k, v in r.values.items()}) for r in batch])",
    ),
    "renames two to one": (
        "test_odd_names_arrive",
        """def write(self, batch):
        for r in batch:
            for k in r.values: self._context.ledger.renamed(k, k[:250])
            for k, v in r.values.items():
                super().write([msgspec.structs.replace(r, seq=r.seq * 1000 + int(v * 10), values={k[:250]: v})])""",
    ),
    "renames plain names": (
        "test_plain_names",
        """def write(self, batch):
        for r in batch:
            for k in r.values: self._context.ledger.renamed(k, k.replace('/', '.'))
        super().write([msgspec.structs.replace(r, values={k.replace('/', '.'): v for k, v in r.values.items()})
                       for r in batch])""",
    ),
    "a new run each time": (
        "test_a_new_object_goes_on",
        "def open(self, state): self._context = msgspec.structs.replace(self._context, run_id=str(id(self)));"
        " return super().open(state)",
    ),
    "a new run without the state": (
        "test_opening_again_without_the_state",
        "def open(self, state): return {**super().open(state), 'id': state['id'] if state else str(id(self))}",
    ),
    "appends what is repeated": ("test_a_repeat_after_reopening", APPENDS),
    "appends what the same object repeats": ("test_a_repeat_by_the_same_object", APPENDS),
    "appends repeated files": ("test_a_repeat_of_every_kind", APPENDS),
    "mixes two runs": (
        "test_two_runs_side_by_side",
        "def open(self, state): self._context = msgspec.structs.replace(self._context, run_id='all');"
        " return super().open(state)",
    ),
    "every run has finished": (
        "test_the_status_is_the_one_given",
        "def close(self, status): super().close(status and 'finished')",
    ),
    "ends when it should let go": ("test_letting_go", "def close(self, status): super().close(status or 'finished')"),
    "closes once only": (
        "test_closing_again",
        """shut = False
    def close(self, status):
        if self.shut: raise ValueError('closed')
        self.shut = True""",
    ),
    "forgets what it had": (
        "test_confirmed_still_answers",
        "def confirmed(self): return 0 if self._closed else super().confirmed()",
    ),
    "a refusal is an accident": (
        "test_a_refused_record_is_named",
        """def write(self, batch):
        try: super().write(batch)
        except RejectedError: raise ValueError('no')""",
    ),
    "a refusal without names": (
        "test_a_refused_record_is_named",
        """def write(self, batch):
        try: super().write(batch)
        except RejectedError: raise RejectedError('no')""",
    ),
    "a refusal takes the others with it": (
        "test_a_refused_record_is_named",
        """def write(self, batch):
        bad = [r for r in batch if type(r) is Image]
        if bad: raise RejectedError('no', bad)
        super().write(batch)""",
    ),
    "a refusal is repeated for ever": (
        "test_a_refused_record_alone",
        """def write(self, batch):
        try: super().write(batch)
        except RejectedError: raise TransientError('later')""",
    ),
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[int, str]]:
    """Runs all faulty sinks at once; returns (the fault's number, the failed test)."""
    folder = tmp_path_factory.mktemp("faults")
    bodies = [re.sub(r"^    ", " " * 8, body, flags=re.MULTILINE) for _, body in FAULTS.values()]
    classes = [FAULTY.format(number=number, fault=body) for number, body in enumerate(bodies)]
    sound = "\nclass TestSound(OnMemory): pass\n"
    (folder / "test_faults.py").write_text(SUITE + sound + "".join(classes))
    nodes = [
        f"test_faults.py::TestFault{number}::{name}"
        for number, (test, _) in enumerate(FAULTS.values())
        for name in contract_tests(SinkContract)
        if name.startswith(test)
    ]
    output = run_pytest(folder, "-rfE", "test_faults.py::TestSound", *nodes)
    assert not re.search(r"^(FAILED|ERROR) \S+::TestSound", output, flags=re.MULTILINE), output
    found = re.findall(r"^FAILED \S+::TestFault(\d+)::(\w+)", output, flags=re.MULTILINE)
    return {(int(number), name) for number, name in found}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_caught(failures: set[tuple[int, str]], fault: str) -> None:
    test, _ = FAULTS[fault]
    number = list(FAULTS).index(fault)
    assert any(found == number and name.startswith(test) for found, name in failures)


def test_failures_are_explained(tmp_path: Path) -> None:
    faulty = FAULTY.format(number=0, fault="def confirmed(self): return 10")
    (tmp_path / "test_faults.py").write_text(SUITE + faulty)
    assert "assert 10 == 0" in run_pytest(tmp_path, "-k", "TestFault0 and test_nothing_is_confirmed")


def test_a_forgotten_fixture_is_named(tmp_path: Path) -> None:
    suite = "from rl_logging.testing import SinkContract\nclass TestMine(SinkContract): pass"
    (tmp_path / "test_mine.py").write_text(suite)
    assert "TestMine must give a fixture make_sink" in run_pytest(tmp_path, "-k", "test_is_a_sink")


def test_the_kit_needs_no_pytest() -> None:
    script = """
import sys
from rl_logging import testing
for name in sorted(set(testing.__all__) - {"SinkContract"}):
    getattr(testing, name)
for module in ("pytest", "torch", "mlflow", "wandb"):
    assert module not in sys.modules, f"{module} was imported"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=180)


def contract_tests(kind: type) -> list[str]:
    return [name for name in dir(kind) if name.startswith("test_")]


def run_pytest(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments]
    environ = {**os.environ, "COLUMNS": "300", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False)
    return done.stdout + done.stderr
