"""What a run has in its journal, and what its logger has told."""

from __future__ import annotations

import logging
from typing import TypeVar

import pytest

from rl_logging import ExperimentLogger
from rl_logging.journal import JournalReader
from rl_logging.records import Record, decode

Kind = TypeVar("Kind", bound=Record)


def records(logger: ExperimentLogger, *kinds: type[Kind]) -> list[Kind]:
    """Returns the records of these kinds, in the journal's order."""
    found = [decode(envelope) for envelope in JournalReader(logger.run_dir / "journal").read()]
    return [record for record in found if isinstance(record, kinds)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns all that was told as a warning or worse."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
