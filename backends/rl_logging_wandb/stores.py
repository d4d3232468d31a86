"""What W&B has: read from an offline run's files, or asked of the server. Nothing else makes a record confirmed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import wandb

from rl_logging_wandb.registry import Link

Check = Callable[[], bool]
"""Says whether something is stored; raises `uploads.RefusedError` if it never will be."""


class Store(Protocol):
    """The side that acknowledges.

    Attributes:
        last_step: The highest ``_step`` that is stored, -1 for none; rows are stored in order.
    """

    last_step: int

    @property
    def config(self) -> dict[str, Any]:
        """The stored config's top-level keys."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The stored tags."""

    @property
    def notes(self) -> str | None:
        """The stored notes, None for none."""

    def refresh(self) -> None:
        """Looks anew, unless it did so a moment ago."""

    def has_file(self, name: str, size: int) -> bool:
        """Says whether the run has the file `name` of `size` bytes."""

    def file(self, path: Path, name: str, send: Callable[[], object]) -> Check:
        """Returns how to find out whether the run has the file `name`, which was handed over.

        Args:
            path: The local file.
            name: Its name in the run.
            send: Hands it over again.
        """

    def artifact(
        self,
        make: Callable[[], wandb.Artifact],
        send: Callable[[wandb.Artifact], wandb.Artifact],
        link: Link | None = None,
    ) -> Check:
        """Hands an artifact over unless it is stored with this run.

        Args:
            make: Makes it.
            send: Hands it over.
            link: Links it to a registry, once it is stored; offline there is none.

        Returns:
            How to find out whether it is stored.
        """


def without_internals(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `values` without W&B's own keys, which begin with an underscore."""
    return {key: value for key, value in values.items() if not key.startswith("_")}
