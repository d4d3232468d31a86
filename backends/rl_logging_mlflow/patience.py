"""How long MLflow's client may take: no retries of its own, short waits.

The client's defaults, seven retries with backoff and 120 seconds each, would hold a worker for minutes, and one retry
after a lost answer creates a second run. It reads its limits from the environment at every request, so they stand there
while one of our requests runs, and only then: beside a training process's thread that uses mlflow itself nothing
else may change.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REQUEST_TIMEOUT_S = 20
SLOW_UPLOAD_BYTES_PER_S = 500_000

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_FIXED = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# Waits that a user may have set on purpose.
_DEFAULTS = {"MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT": str(REQUEST_TIMEOUT_S)}

_lock = threading.Lock()
_before: dict[str, str | None] = {}
_waits_s: list[int] = []


@contextmanager
def bounded_requests(upload_bytes: int = 0) -> Iterator[None]:
    """Bounds the requests made within: none is repeated, none waits longer than it must.

    Args:
        upload_bytes: Size of a file that goes up; its answer may take as long as a slow line needs.
    """
    wait_s = REQUEST_TIMEOUT_S + upload_bytes // SLOW_UPLOAD_BYTES_PER_S
    with _lock:
        if not _waits_s:
            _before.update({name: os.environ.get(name) for name in (*_FIXED, *_DEFAULTS, _TIMEOUT)})
            os.environ.update(_FIXED)
            for name, value in _DEFAULTS.items():
                os.environ.setdefault(name, value)
        _waits_s.append(wait_s)
        _set_timeout()
    try:
        yield
    finally:
        with _lock:
            _waits_s.remove(wait_s)
            if _waits_s:
                _set_timeout()
            else:
                for name, before in _before.items():
                    if before is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = before


def _set_timeout() -> None:
    if _before[_TIMEOUT] is None:
        os.environ[_TIMEOUT] = str(max(_waits_s))
