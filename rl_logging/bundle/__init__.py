"""The run directory (bundle): what is where in it, who may write, and what each destination of it has."""

from __future__ import annotations

from rl_logging.bundle.claim import Claim, WriterInfo
from rl_logging.bundle.directory import Bundle, find
from rl_logging.bundle.manifest import MANIFEST, BundleError, Manifest, SinkEntry
from rl_logging.bundle.replacing import write_atomically
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
