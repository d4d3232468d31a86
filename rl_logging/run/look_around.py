"""What is found out beside the training, in a thread: where the run comes from, and what earlier runs still owe."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from rl_logging.bundle import Bundle
from rl_logging.bundle.owing import unfinished
from rl_logging.records import Environment, body_of
from rl_logging.run import environment
from rl_logging.run.interface import WarnOnce
from rl_logging.run.summary import sync_command

log = logging.getLogger("rl_logging")

EARLIER_RUNS: Final = 20


class LookAround:
    """One look around, begun at once; off the caller's thread.

    Args:
        bundle: The run.
        append: Takes the kind, step and body of a record.
        warn_once: Called with a key and a message for the user.
    """

    def __init__(self, bundle: Bundle, append: Callable[[str, int | None, Any], object], warn_once: WarnOnce) -> None:
        self._bundle = bundle
        self._append = append
        self._warn_once = warn_once
        self._thread = threading.Thread(target=self._run, name="rl_logging-environment", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Waits until all is found out."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        self._capture_environment()
        path = self._bundle.path
        try:
            debtors = unfinished(path.parent, most=EARLIER_RUNS, but=path)
        except Exception:  # whatever lies beside this run, it is not this run's trouble
            log.debug("looking at earlier runs", exc_info=True)
            return
        if debtors:
            names = ", ".join(debtor.name for debtor in debtors[:3]) + (" and others" if len(debtors) > 3 else "")
            self._warn_once(
                "unfinished",
                f"earlier runs here still owe records ({names}): send them with\n    $ {sync_command(path.parent)}",
            )

    def _capture_environment(self) -> None:
        try:
            facts, patched = environment.capture(self._bundle.path, self._bundle.manifest.program)
        except OSError as error:
            self._warn_once("environment", f"environment.json could not be written: {error}")
            return
        record = Environment(
            seq=0, time=0.0, path="environment.json", patch="diff.patch" if patched else None, facts=facts
        )
        self._append(Environment.kind, None, body_of(record))
