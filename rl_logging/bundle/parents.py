"""The run that a run belongs below, such as a sweep's: known by its directory where it is in reach, else by its id."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import msgspec

from rl_logging.bundle import MANIFEST, Bundle, BundleError
from rl_logging.settings.sections import SettingsError

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]{0,63}")


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """A run's parent.

    Attributes:
        id: Its id.
        group: The group of its children where they have none of their own.
        path: Its run directory; None where that is not in reach.
        project: Its project; None where it has none, or is not in reach.
    """

    id: str
    group: str
    path: Path | None = None
    project: str | None = None


def find_parent(given: str, folder: Path) -> Parent:
    """Returns the run that the setting `parent` names.

    An id need not be that of a run in reach: it may run on another machine, or begin later.

    Args:
        given: A run directory, or a run's id.
        folder: Where run directories are.

    Raises:
        SettingsError: It is neither.
    """
    path = Path(given).expanduser()
    found = path if (path / MANIFEST).is_file() else None
    if found is None and _ID.fullmatch(given):
        found = next((each for each in folder.glob(f"*-{given}") if _id_of(each) == given), None)
        if found is None:
            return Parent(id=given, group=given)
    if found is None:
        raise SettingsError(f"rl_logging.parent: {given!r} is neither a run directory nor a run's id")
    try:
        manifest = Bundle(found).manifest
    except BundleError as error:
        raise SettingsError(f"rl_logging.parent: {error}") from error
    return Parent(
        id=manifest.id,
        group=manifest.group or f"{manifest.name}-{manifest.id}",
        path=found.absolute(),
        project=manifest.project,
    )


def relative(path: Path | None, run_dir: Path) -> str | None:
    """Returns how to get from a run directory to its parent's; None where there is no way."""
    if path is None:
        return None
    try:
        return Path(os.path.relpath(path, run_dir)).as_posix()
    except ValueError:  # another drive
        return None


def _id_of(path: Path) -> str | None:
    try:
        return Bundle(path).manifest.id
    except BundleError:
        return None
