"""For people who write sinks, and for people who test code that logs.

* `SinkContract`: the pytest suite every sink must pass; subclass it and give two fixtures.
* `sample_records`, `sample_metrics`, `sample_context`, `Stored` and its parts: what the suite is made of.
* `MemorySink`, `MemoryStore`, `MemoryLedger`: a store in this process, with faults on demand.
* `FileSink`, `FileStore`: a store in a file, for tests that end processes.
* `RecordingLogger`: an `ExperimentLogger` that keeps what it is given in memory, for tests of training code.

Each is imported when it is first asked for: pytest is needed for `SinkContract` alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rl_logging.testing.contract import SinkContract
    from rl_logging.testing.files import FileSink, FileStore
    from rl_logging.testing.ledger import MemoryLedger
    from rl_logging.testing.memory import MemorySink, MemoryStore
    from rl_logging.testing.memory_run import MemoryRun
    from rl_logging.testing.recording import RecordingLogger
    from rl_logging.testing.samples import sample_context, sample_metrics, sample_records
    from rl_logging.testing.stored import Stored, StoredFile, StoredFolder, StoredPoint

__all__ = [
    "FileSink",
    "FileStore",
    "MemoryLedger",
    "MemoryRun",
    "MemorySink",
    "MemoryStore",
    "RecordingLogger",
    "SinkContract",
    "Stored",
    "StoredFile",
    "StoredFolder",
    "StoredPoint",
    "sample_context",
    "sample_metrics",
    "sample_records",
]

_HOMES: Final = {
    "FileSink": "files",
    "FileStore": "files",
    "MemoryLedger": "ledger",
    "MemoryRun": "memory_run",
    "MemorySink": "memory",
    "MemoryStore": "memory",
    "RecordingLogger": "recording",
    "SinkContract": "contract",
    "Stored": "stored",
    "StoredFile": "stored",
    "StoredFolder": "stored",
    "StoredPoint": "stored",
    "sample_context": "samples",
    "sample_metrics": "samples",
    "sample_records": "samples",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if home == "contract":
        _rewrite_asserts()
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _rewrite_asserts() -> None:
    """Has pytest explain the contract's failures; it does so for a test module, not for a library's."""
    try:
        import pytest
    except ImportError as error:
        raise ImportError("SinkContract needs pytest: pip install pytest") from error
    pytest.register_assert_rewrite(f"{__name__}.contract")
