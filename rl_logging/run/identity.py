"""What a new run is called, and which program it is of."""

from __future__ import annotations

import os
import secrets
import string
import sys
import time
from pathlib import Path
from typing import Final

from rl_logging.secrets import mask_arguments
from rl_logging.sinks import Program

ID_ALPHABET: Final = string.digits + string.ascii_lowercase


def new_id() -> str:
    """Returns an id for a run."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(8))


def new_name(program: Program, created: float) -> str:
    """Returns a display name for a run of `program` that was made at `created`, in seconds since the epoch."""
    return f"{_stem(program)}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(created))}"


def this_program(cwd: Path) -> Program:
    """Returns this process as a run's program, without secrets."""
    main_file = getattr(sys.modules.get("__main__"), "__file__", None)
    return Program(
        pid=os.getpid(),
        argv=tuple(map(_encodable, mask_arguments(sys.argv))),
        cwd=_encodable(str(cwd)),
        executable=_encodable(sys.executable),
        main=_encodable(os.path.abspath(main_file)) if main_file else None,
    )


def _encodable(text: str) -> str:
    """Returns a file name or argument that is no Unicode as one that is."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _stem(program: Program) -> str:
    if program.main is None:
        return "run"
    stem = Path(program.main).stem
    return Path(program.main).parent.name if stem == "__main__" else stem
