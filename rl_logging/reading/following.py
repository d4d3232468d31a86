"""Following a run's records while it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from rl_logging.bundle import Bundle
from rl_logging.journal import JournalReader
from rl_logging.reading.runs import decoded
from rl_logging.records import Record

LOOK_S: Final = 0.5
"""How often a journal that is at its end is looked at again; there is no portable event for a file's growth."""


def follow(bundle: Bundle) -> Iterator[Record | None]:
    """Yields a run's records: those there are, and then each as it is logged, until the run is over.

    Whenever all that is there was yielded, None says so; asked for more it waits a moment.
    """
    reader = JournalReader(bundle.journal)
    while True:
        over = bundle.abandoned()  # asked first: what was written before that is then read
        found = reader.read()
        yield from decoded(found)
        if found:
            continue
        yield None
        if over:
            return
        time.sleep(LOOK_S)
