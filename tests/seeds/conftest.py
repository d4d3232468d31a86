"""An environment beside the usual one (that with skrl 1) has the backends on no path of its own."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

BACKENDS = str(Path(__file__).parents[2] / "backends")

if importlib.util.find_spec("rl_logging_mlflow") is None:
    # For all of this process: its one delivery process is started with this path.
    sys.path.append(BACKENDS)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), BACKENDS)))
