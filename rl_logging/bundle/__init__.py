"""The run directory (bundle): what is where in it, who may write, and what each destination of it has."""

from __future__ import annotations

from rl_logging.bundle.directory import (
    MANIFEST,
    Bundle,
    BundleError,
    Claim,
    Manifest,
    SinkEntry,
    WriterInfo,
    find,
    write_atomically,
)
from rl_logging.bundle.rewinds import superseded

__all__ = [
    "MANIFEST",
    "Bundle",
    "BundleError",
    "Claim",
    "Manifest",
    "SinkEntry",
    "WriterInfo",
    "find",
    "superseded",
    "write_atomically",
]
