"""Linking saved models to W&B's registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import wandb

from rl_logging.records import Model
from rl_logging.sinks import Ledger
from rl_logging_wandb import sdk, values
from rl_logging_wandb.core_log import refusal

REGISTRY: Final = "wandb-registry-model"
"""The registry that every organisation has; a collection in it is what other stores call a registered model."""

_OUT_OF_REACH: Final = re.compile(
    r"connect|timed? ?out|in time|not running|deadline|reset|refused by|EOF|no such host|unreachable", re.IGNORECASE
)
"""What wandb-core says where there was no answer; what else has no status is the SDK's own judgement."""

Link = Callable[[wandb.Artifact], None]


class NotLinkedError(Exception):
    """W&B has the artifact, and will not link it."""


def link_of(record: Model, aliases: Sequence[str], *, offline: bool, ledger: Ledger) -> Link | None:
    """Returns what links the record's artifact once it is stored; None where nothing is to be linked, or can be.

    Linked again, an artifact stays one version of the collection. What is returned raises `NotLinkedError` where W&B
    refuses, and the SDK's own errors where it may be tried again.

    Args:
        record: The model.
        aliases: The version's names; W&B adds ``latest`` by itself.
        offline: Whether the run is offline, where W&B has no way to link.
        ledger: Is told of a changed name, and of what cannot be linked.
    """
    if record.register is None:
        return None
    collection = values.file_name(record.register)
    if collection != record.register:
        ledger.renamed(f"registered model {record.register}", collection)
    if offline:
        ledger.warn(
            f"'{record.name}' is not registered as '{collection}': W&B links models online only; after 'wandb sync' do "
            "so on its page, or deliver with 'rl-logging sync --to wandb --mode online' instead, which links it"
        )
        return None
    given = [alias for alias in aliases if alias != "latest"]

    def link(artifact: wandb.Artifact) -> None:
        try:
            artifact.link(f"{REGISTRY}/{collection}", aliases=given)
        except Exception as error:
            if _may_pass(error):
                raise
            raise NotLinkedError(
                f"'{record.name}' is stored, but not linked to {REGISTRY}/{collection}: {str(error).strip()}"
            ) from error

    return link


def _may_pass(error: Exception) -> bool:
    """Whether linking may work later: the server fails, or is out of reach, rather than refuses."""
    status = sdk.http_status(error)
    if status is not None:
        return not refusal(status)
    cause = getattr(error, "exc", None) or error
    return isinstance(cause, (OSError, *sdk.SERVICE_GONE)) or bool(_OUT_OF_REACH.search(str(error)))
