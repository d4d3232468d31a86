"""From what is read of the journal to the records that a worker deals with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from rl_logging.records import Envelope, Record, Unknown, decode


class LeftOut(Record, frozen=True):
    """A record that the run went back behind."""


def decoded(
    envelopes: Iterable[Envelope], leaves_out: Callable[[Envelope], bool], note: Callable[[str], None]
) -> tuple[list[Record], Unknown | None]:
    """Returns the records in `envelopes`, up to the first that needs a newer version, and that one.

    Args:
        envelopes: What was read.
        leaves_out: Whether a record is left out, because the run went back behind it.
        note: Called with what is told of a record that does not decode; it becomes an `Unknown`.
    """
    records: list[Record] = []
    for envelope in envelopes:
        if leaves_out(envelope):
            records.append(LeftOut(seq=envelope.seq, time=envelope.time))
            continue
        try:
            record = decode(envelope)
        except (msgspec.DecodeError, RecursionError, TypeError) as error:
            note(f"record {envelope.seq} does not decode: {error}")
            records.append(Unknown(seq=envelope.seq, time=envelope.time, name=envelope.kind))
            continue
        if isinstance(record, Unknown):
            return records, record
        records.append(record)
    return records, None
