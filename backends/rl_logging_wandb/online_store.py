"""What W&B's server has of a run: asked of it by its public API."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import wandb

from rl_logging_wandb.core_log import CoreLog
from rl_logging_wandb.registry import Link
from rl_logging_wandb.stores import Check
from rl_logging_wandb.uploads import ArtifactUpload, FileUpload

_log = logging.getLogger("rl_logging.wandb")

POLL_INTERVAL_S: Final = 1.0
"""Least time between two questions to the server."""

FAILED_INTERVAL_S: Final = 5.0
"""The same after one that was not answered, which can take `API_TIMEOUT_S` for each of up to three requests."""

API_TIMEOUT_S: Final = 5

UNANSWERED_WARN_S: Final = 60.0

SILENT_AFTER_S: Final = 10.0
"""How long a server may fail to answer before that is an outage."""


class OnlineStore:
    """The server, asked at most once a second.

    Args:
        path: ``entity/project/id``.
        base_url: The server.
        last_step: The highest stored ``_step`` when the run was opened, -1 for none.
        core_log: What wandb-core says of uploads.
        warn: Takes a sentence for the user.

    Attributes:
        outage: Why nothing can be known of the server, where it has not answered for a while; else None.
    """

    def __init__(
        self, path: str, base_url: str, last_step: int, core_log: CoreLog, warn: Callable[[str], None]
    ) -> None:
        self.last_step = last_step
        self._config: dict[str, Any] = {}
        self._tags: tuple[str, ...] = ()
        self._notes: str | None = None
        self._fields_wanted = False
        self._path = path
        self._base_url = base_url
        self._core_log = core_log
        self._warn = warn
        self._api: wandb.Api | None = None
        self._run: Any = None
        self._ask_at = 0.0
        self._answered_at = time.monotonic()
        self._failing_since: float | None = None
        self.outage: str | None = None
        self._wanted: set[str] = set()
        self._files: dict[str, int] = {}

    # Whoever looks at these wants them fresh the next time; otherwise the server is asked for the rows alone.

    @property
    def config(self) -> dict[str, Any]:
        """The stored config's top-level keys."""
        self._fields_wanted = True
        return self._config

    @config.setter
    def config(self, config: dict[str, Any]) -> None:
        self._config = config

    @property
    def tags(self) -> tuple[str, ...]:
        """The stored tags."""
        self._fields_wanted = True
        return self._tags

    @property
    def notes(self) -> str | None:
        """The stored notes, None for none."""
        self._fields_wanted = True
        return self._notes

    def refresh(self) -> None:
        """Asks the server; where that fails, what is known stays, and a later call asks again."""
        if time.monotonic() < self._ask_at:
            return
        try:
            self._ask()
        except Exception as error:  # any failure of the SDK means only that nothing new is known
            _log.info("asking W&B what it has of %s failed: %s", self._path, error)
            now = time.monotonic()
            self._ask_at = now + FAILED_INTERVAL_S
            self._failing_since = now if self._failing_since is None else self._failing_since
            if now - self._failing_since > SILENT_AFTER_S:
                self.outage = f"W&B does not answer: {error or type(error).__name__}"
            if now - self._answered_at > UNANSWERED_WARN_S:
                self._warn(
                    f"W&B does not say what it has of {self._path}: {type(error).__name__}; what was sent stays owed "
                    "until it does"
                )
        else:
            self._answered_at = time.monotonic()
            self._failing_since = self.outage = None
            self._ask_at = self._answered_at + POLL_INTERVAL_S

    def has_file(self, name: str, size: int) -> bool:
        """Says whether the server has the whole file; a name it was not yet asked for, it will be asked next time."""
        if self._files.get(name) == size:
            self._wanted.discard(name)
            return True
        self._wanted.add(name)
        return False

    def file(self, path: Path, name: str, send: Callable[[], object]) -> Check:
        """See `Store.file`; what wandb-core gives up is sent again."""
        size = path.stat().st_size
        self.has_file(name, size)  # so that it is asked for from the first time on
        return FileUpload(path, send, lambda: self.has_file(name, size), self._core_log).is_stored

    def artifact(
        self,
        make: Callable[[], wandb.Artifact],
        send: Callable[[wandb.Artifact], wandb.Artifact],
        link: Link | None = None,
    ) -> Check:
        """See `Store.artifact`; sent again, one of equal content stays one version."""
        return ArtifactUpload(make, send, self._core_log, link, self._warn).is_stored

    def _ask(self) -> None:
        if self._api is None:
            self._api = wandb.Api(overrides={"base_url": self._base_url}, timeout=API_TIMEOUT_S)
        if self._run is None or self._fields_wanted or self._wanted:
            # The SDK keeps what it was answered.
            self._api.flush()
            self._run = self._api.run(self._path)
            self._config = dict(self._run.config)
            self._tags = tuple(self._run.tags or ())
            self._notes = self._run.notes or None
            self._fields_wanted = False
        if self._wanted:
            self._files.update({file.name: int(file.size) for file in self._run.files(sorted(self._wanted))})
        self.last_step = max(self.last_step, int(self._run.lastHistoryStep))
