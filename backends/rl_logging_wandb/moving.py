"""What the folder of an offline run says to whoever is about to move it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from rl_logging.sinks import SinkContext

NAME: Final = "READ_BEFORE_MOVING.txt"

_TEXT: Final = """\
"wandb sync" on this folder sends the whole run, as long as this folder and the run directory

    {run_dir}

are where they were written: W&B keeps models and files of an offline run as absolute paths, which lead there.

To send the run from elsewhere, move the run directory alone, which has everything, and on the other machine run

    rl-logging sync --to wandb --project PROJECT --mode online {name}
"""


def leave_note(folder: Path, context: SinkContext) -> None:
    """Writes what to do into an offline run's folder; where that cannot be written, W&B's own files say so loudly."""
    with contextlib.suppress(OSError):
        (folder / NAME).write_text(_TEXT.format(run_dir=context.run_dir, name=context.run_dir.name), encoding="utf-8")
