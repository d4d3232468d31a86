"""Run directories for tests of what reads them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rl_logging.bundle import Bundle, Manifest, SinkEntry
from rl_logging.bundle.destination import destination_key
from rl_logging.journal import JournalWriter
from rl_logging.sinks import Program


def make_entry(name: str = "memory", factory: str | None = None, **options: object) -> SinkEntry:
    return SinkEntry(
        name=name,
        options=options,
        given=options,
        destination=f"{name} for a test",
        key=destination_key(name, "test"),
        factory=factory,
    )


def make_bundle(folder: Path, *entries: SinkEntry, run_id: str = "abcd1234") -> Bundle:
    program = Program(pid=1, argv=("train.py",), cwd=str(folder), executable=sys.executable)
    manifest = Manifest(
        version="0",
        id=run_id,
        name="a run",
        created=time.time(),
        program=program,
        host="here",
        settings={},
        sinks=entries,
    )
    bundle, claim = Bundle.create(folder / run_id, manifest)
    claim.abandon()  # whoever writes claims it
    return bundle


def fill(bundle: Bundle, count: int, *, end: str | None = "finished") -> JournalWriter:
    writer = JournalWriter(bundle.journal, bundle.manifest.id)
    for step in range(count):
        writer.append("metrics", step, {"loss": step / 2})
    if end is not None:
        writer.append("end", None, {"status": end})
    return writer
