"""Saved models as versions of registered ones."""

from __future__ import annotations

import posixpath
import re
from typing import Any, Final

from rl_logging.records import Model
from rl_logging.sinks import Ledger
from rl_logging_mlflow.names import with_hash
from rl_logging_mlflow.remote import RefusedError, RemoteRun, asking

RECORD_TAG: Final = "rl_logging.record"
MAX_NAME_LENGTH: Final = 250

_ILLEGAL_IN_NAME: Final = re.compile(r"\s*[/:'\"\\]+\s*")
_ILLEGAL_IN_ALIAS: Final = re.compile(r"[^\w\-]+")
_RESERVED_ALIAS: Final = re.compile(r"latest|v\d+", re.IGNORECASE)
_EXISTS: Final = "RESOURCE_ALREADY_EXISTS"


class Registry:
    """Where a run's models are registered.

    Args:
        remote: The run.
        bundle_id: The run's id in rl_logging.
        ledger: Is told of changed names, and of a registry that does not take a model.
    """

    def __init__(self, remote: RemoteRun, bundle_id: str, ledger: Ledger) -> None:
        self._remote = remote
        self._bundle_id = bundle_id
        self._ledger = ledger

    def register(self, record: Model, target: str) -> None:
        """Makes a stored model a version of the registered model that the record names, once, and moves the aliases.

        A registry that refuses it is told of; the model itself is stored.

        Args:
            record: The model.
            target: Its path among the run's artifacts.

        Raises:
            TransientError: Not now.
        """
        if record.register is None:
            return
        name = self._told(record.register, registered_name(record.register), "registered model")
        aliases = [self._told(alias, registered_alias(alias), "alias") for alias in record.aliases]
        client = self._remote.client
        try:
            with asking(self._remote.uri):
                version = self._version_of(client, name, record) or self._create(client, name, record, target)
                for alias in aliases:
                    client.set_registered_model_alias(name, alias, version)
        except RefusedError as error:
            self._ledger.warn(f"'{record.name}' is stored, but not registered as '{name}': {error}")

    def _version_of(self, client: Any, name: str, record: Model) -> str | None:
        """Returns the version that an earlier life has made of the record."""
        token: str | None = None
        while True:
            page = client.search_model_versions(
                f"name='{name}' and run_id='{self._remote.id}'", max_results=200, page_token=token
            )
            for version in page:
                if version.tags.get(RECORD_TAG) == self._mark(record):
                    return str(version.version)
            token = page.token
            if not token:
                return None

    def _create(self, client: Any, name: str, record: Model, target: str) -> str:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != _EXISTS:
                raise
        tags = {RECORD_TAG: self._mark(record), "rl_logging.step": str(record.step)}
        made = client.create_model_version(
            name,
            posixpath.join(self._remote.artifact_uri, target),
            run_id=self._remote.id,
            tags=tags,
            await_creation_for=0,
        )
        return str(made.version)

    def _mark(self, record: Model) -> str:
        return f"{self._bundle_id}/{record.seq}"

    def _told(self, given: str, stored: str, what: str) -> str:
        if stored != given:
            self._ledger.renamed(f"{what} {given}", stored)
        return stored


def registered_name(name: str) -> str:
    """Returns `name` as MLflow's registry takes it: without slashes, colons and quotes."""
    clean = _ILLEGAL_IN_NAME.sub("-", name.strip()).strip("-")
    if not clean.strip("."):
        clean = "model"
    return clean if len(clean) <= MAX_NAME_LENGTH else with_hash(clean, name)


def registered_alias(alias: str) -> str:
    """Returns `alias` as MLflow's registry takes it: letters, digits, ``_`` and ``-``, but no name of its own.

    Its own are ``latest`` and a version's, such as ``v1``.
    """
    clean = _ILLEGAL_IN_ALIAS.sub("-", alias.strip()).strip("-") or "alias"
    if _RESERVED_ALIAS.fullmatch(clean):
        clean = f"alias-{clean}"
    return clean if len(clean) <= MAX_NAME_LENGTH else with_hash(clean, alias)
