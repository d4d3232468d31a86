"""What an online run uploads beside its rows: seen through until the server has it, or has refused it for good."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import wandb

from rl_logging_wandb import sdk
from rl_logging_wandb.core_log import CoreLog, refuses
from rl_logging_wandb.registry import Link, NotLinkedError

_log = logging.getLogger("rl_logging.wandb")

REFUSALS: Final = 3
"""So often must the server refuse the same thing before it counts as refused."""

AGAIN_S: Final = 2.0
MAX_AGAIN_S: Final = 60.0
"""Pause before another try, doubled each time up to the latter; wandb-core's own retries come on top."""

_LOOK_S: Final = 0.05


class RefusedError(Exception):
    """The server will not take it, however often it is sent."""


class _Tries:
    """When to send again, and when to give up."""

    def __init__(self) -> None:
        self._refusals = 0
        self._pause_s = AGAIN_S
        self._not_before = 0.0

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._not_before

    def failed(self, words: str, *, for_good: bool) -> None:
        """Notes a failure.

        Raises:
            RefusedError: It was one refusal too many.
        """
        self._refusals += for_good
        if self._refusals >= REFUSALS:
            raise RefusedError(words.strip())
        self._not_before = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, MAX_AGAIN_S)


class FileUpload:
    """A run file on its way.

    Args:
        path: The local file.
        send: Has wandb-core upload it.
        is_there: Says whether the server has it.
        core_log: Tells what wandb-core gave up.
    """

    def __init__(self, path: Path, send: Callable[[], object], is_there: Callable[[], bool], core_log: CoreLog) -> None:
        self._path = path
        self._send = send
        self._is_there = is_there
        self._core_log = core_log
        self._tries = _Tries()
        self._given_up = False

    def is_stored(self) -> bool:
        """Says whether the server has it; one that wandb-core gave up is sent again.

        Raises:
            RefusedError: The server refuses it.
        """
        if self._is_there():
            return True
        failure = self._core_log.take(str(self._path))
        if failure is not None:
            _log.info("W&B did not take %s: %s", self._path, failure.words)
            self._given_up = True
            self._tries.failed(failure.words, for_good=failure.for_good)
        if self._given_up and self._tries.due:
            self._given_up = False
            self._send()
        return False


class ArtifactUpload:
    """An artifact on its way.

    The SDK's ``wait`` cancels the upload when its timeout passes, so it is waited for without one, in a thread of its
    own; the thread starts only when somebody wants to know.

    Args:
        make: Makes the artifact; called again for each further try.
        send: Hands it to wandb-core.
        core_log: Tells what wandb-core gave up.
        link: What is done with the stored one, or None; it counts as stored when that is done too, or refused.
        warn: Takes a sentence for the user.
    """

    def __init__(
        self,
        make: Callable[[], wandb.Artifact],
        send: Callable[[wandb.Artifact], wandb.Artifact],
        core_log: CoreLog,
        link: Link | None = None,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        self._make = make
        self._send = send
        self._core_log = core_log
        self._link = link
        self._warn = warn
        self._tries = _Tries()
        self._waiter: threading.Thread | None = None
        self._error: Exception | None = None
        self._artifact: wandb.Artifact | None = send(make())

    def is_stored(self) -> bool:
        """Says whether the server has committed it; one whose upload failed is sent again.

        Raises:
            RefusedError: The server refuses it.
        """
        if self._waiter is None:
            if not self._tries.due:
                return False
            if self._artifact is None:
                self._artifact = self._send(self._make())
            self._waiter = threading.Thread(
                target=self._wait, args=(self._artifact,), name="rl_logging-wandb-artifact", daemon=True
            )
            self._waiter.start()
        self._waiter.join(_LOOK_S)
        if self._waiter.is_alive():
            return False
        if self._error is None:
            return True
        if isinstance(self._error, NotLinkedError):
            self._warn(str(self._error))
            self._error = None
            return True
        self._waiter, error = None, self._error
        self._take(error)
        return False

    def _wait(self, artifact: wandb.Artifact) -> None:
        try:
            artifact.wait()
            if self._link is not None:
                self._link(artifact)
                self._link = None
        except Exception as error:  # whatever it is, the other thread judges it
            self._error = error
        else:
            self._error = None

    def _take(self, error: Exception) -> None:
        _log.info("W&B does not say that it has an artifact: %r", error)
        words = str(error)
        if type(error) is ValueError and not words.startswith("Unable to fetch"):
            # So the SDK gives the server's words on an upload that failed.
            artifact, self._artifact = self._artifact, None
            for file in sdk.local_files(artifact) if artifact is not None else ():
                # Of the files' own uploads the SDK says only how many failed.
                failure = self._core_log.take(file)
                words = failure.words if failure is not None else words
            self._tries.failed(words, for_good=refuses(words))
        elif isinstance(error, sdk.SERVICE_GONE):
            self._artifact = None
            self._tries.failed(repr(error), for_good=False)
        else:
            # It was stored, or will be; asking for it afterwards failed.
            self._tries.failed(words, for_good=False)
