"""``run.json``: what a run is, and where it was configured to go."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec

from rl_logging.kept import read_kept
from rl_logging.sinks import Program

FORMAT: Final = 1
MANIFEST: Final = "run.json"
_KEY: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")


class BundleError(Exception):
    """A directory is not a usable run directory; the message says why."""


class SinkEntry(msgspec.Struct, kw_only=True, frozen=True):
    """A destination the run was configured to reach.

    Attributes:
        name: The sink's name.
        options: Resolved options, secrets replaced by references to environment variables.
        given: The options as the user gave them, secrets likewise.
        destination: Where `options` lead, for a person.
        key: Names this (sink, destination) in file names.
        factory: ``module:callable`` for a sink without packaging, else None.
        live: True for a sink that exists only as an object of the training process.
    """

    name: str
    options: dict[str, Any]
    given: dict[str, Any]
    destination: str
    key: str
    factory: str | None = None
    live: bool = False

    def check(self, file: Path) -> None:
        """Does nothing where `key` can be part of a file name.

        Raises:
            BundleError: It cannot; it was read from `file`.
        """
        if not _KEY.fullmatch(self.key):
            raise BundleError(f"{file} is damaged: a destination's key is {self.key!r}")


class Manifest(msgspec.Struct, kw_only=True, frozen=True):
    """``run.json``: what a run is, without secrets.

    `parent` is the id of the run it belongs below, `parent_dir` the way there from the run directory, where known.
    """

    format: int = FORMAT
    version: str
    id: str
    name: str
    created: float
    program: Program
    host: str
    settings: dict[str, Any]
    project: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    sinks: tuple[SinkEntry, ...] = ()
    parent: str | None = None
    parent_dir: str | None = None


def read_manifest(path: Path) -> Manifest:
    """Returns what the run directory `path` says it is.

    Raises:
        BundleError: It is none of ours, is damaged, or was written by a newer version.
    """
    file = path / MANIFEST
    try:
        data = read_kept(file)
    except OSError as error:
        raise BundleError(f"{path} is not a run directory: {MANIFEST}: {error.strerror}") from error
    try:
        probe = msgspec.json.decode(data)
        version = probe.get("format") if isinstance(probe, dict) else None
        if isinstance(version, int) and version > FORMAT:
            raise BundleError(f"{file} has format {version}: it needs a newer rl_logging than this one")
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BundleError(f"{file} is damaged: {error}") from error
    if not _ID.fullmatch(manifest.id):
        raise BundleError(f"{file} is damaged: the run's id is {manifest.id!r}")
    for entry in manifest.sinks:
        entry.check(file)
    return manifest
