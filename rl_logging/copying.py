"""Copying a user's folder into the run directory, and nothing else with it."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from pathlib import Path

log = logging.getLogger("rl_logging")


def copy_folder(source: Path, target: Path) -> None:
    """Copies the regular files of `source` to a new folder `target`; links are followed only where they stay inside.

    Raises:
        OSError: Something cannot be read or written, or `target` lies inside `source`.
    """
    root = source.resolve()
    if target.resolve().is_relative_to(root):
        raise OSError(f"{source} holds the run directory, where it would be copied into itself")
    left_out: list[str] = []
    for current, folders, files in os.walk(root):
        relative = Path(current).relative_to(root)
        (target / relative).mkdir(parents=True, exist_ok=True)
        for entry in sorted(folders):
            if Path(current, entry).is_symlink():
                folders.remove(entry)
                left_out.append(str(relative / entry))
        for entry in files:
            real = Path(current, entry).resolve()
            if real.is_relative_to(root) and real.is_file() and stat.S_ISREG(real.stat().st_mode):
                shutil.copyfile(real, target / relative / entry)
            else:
                left_out.append(str(relative / entry))
    if left_out:
        shown = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
        log.warning("of the folder %s these were not copied, being links or no regular files: %s", source, shown)
