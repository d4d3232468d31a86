"""The journal: append-only segment files that hold every record a run has accepted.

A segment is ``<number>.rlj``: a header (magic, format version, run id, first seq), then frames. A frame is a
little-endian length, a CRC-32 over length and payload, and the payload (`rl_logging.records`). A record is one
`os.write` in the caller's thread; what the write has taken survives SIGKILL of the process.

Nothing is ever truncated or rewritten in place, since a reader may be there: a short or failed write and every
reopening start a new segment, and readers pass over what a torn frame left behind. That is damage unless the new
segment says (`follows` in its header) that all that was accepted stands before it.
"""

from __future__ import annotations

from rl_logging.journal.reader import JournalReader, last_seq
from rl_logging.journal.segment import Damage, JournalError, number_of, read_header, segments
from rl_logging.journal.trimmed import Trimmed, read_trimmed
from rl_logging.journal.writer import JournalWriter

__all__ = [
    "Damage",
    "JournalError",
    "JournalReader",
    "JournalWriter",
    "Trimmed",
    "last_seq",
    "number_of",
    "read_header",
    "read_trimmed",
    "segments",
]
