"""The command that starts a delivery process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Final

from rl_logging.processes import started_at

LINGER_S: Final = 10.0
"""For how long it waits for another run, while the training lives: a sweep in a loop imports the SDKs once."""

BOOT: Final = (
    "import sys,json;a=json.loads(sys.argv[1]);sys.path[:]=a['path'];"
    "from rl_logging.delivery.process import main;main(a['pid'],a['started'],a['runs'],a['linger_s'])"
)


def boot_command(runs: Sequence[tuple[str, float, float | None, int]]) -> list[str]:
    """Returns the command that starts a delivery process of this training process's.

    Args:
        runs: What it serves from the start (`rl_logging.delivery.process.main`).
    """
    pid = os.getpid()
    told = {"path": search_path(), "pid": pid, "started": started_at(pid) or 0.0, "runs": runs, "linger_s": LINGER_S}
    return [sys.executable, "-c", BOOT, json.dumps(told)]


def search_path() -> list[str]:
    """Returns this process's module search path for the delivery process.

    The folder of the running program and the working directory come last: what lies there by chance must not stand
    in for a library, yet a sink of the user's own may live there.
    """
    cwd = os.getcwd()
    main_file = getattr(sys.modules.get("__main__"), "__file__", None)
    doubtful = {os.path.abspath(cwd)}
    if main_file:
        doubtful.add(os.path.dirname(os.path.abspath(main_file)))
    entries = list(dict.fromkeys(os.path.abspath(entry) if entry else cwd for entry in sys.path))
    return [entry for entry in entries if entry not in doubtful] + [entry for entry in entries if entry in doubtful]
