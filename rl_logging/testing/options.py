"""The options of the sinks that are made for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rl_logging.sinks import RejectedError


def refuse_unknown(name: str, options: Iterable[str], known: Sequence[str]) -> None:
    """Refuses options that a factory does not know.

    Raises:
        RejectedError: There is one.
    """
    unknown = [option for option in options if option not in known]
    if unknown:
        raise RejectedError(f"{name}.{unknown[0]}: there is no such option; known are {', '.join(known)}")
