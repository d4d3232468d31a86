"""Errors in words."""

from __future__ import annotations

import traceback

from rl_logging.delivery.bounded import OverdueError
from rl_logging.sinks import RejectedError, TransientError


def in_words(error: BaseException) -> str:
    """Returns an error as one line for a person."""
    if isinstance(error, (TransientError, RejectedError, OverdueError)):
        return str(error)
    return traceback.format_exception_only(type(error), error)[-1].strip()
