"""Configuration: params for MLflow's table, and all of it, whole, in ``config.yaml``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rl_logging.records import Config
from rl_logging.sinks import Ledger
from rl_logging_mlflow.artifacts import Artifacts
from rl_logging_mlflow.batches import chunks, json_size, sift
from rl_logging_mlflow.memory import Memory
from rl_logging_mlflow.names import NameTable, clean_key
from rl_logging_mlflow.opening import MAX_TAG_LENGTH
from rl_logging_mlflow.remote import RefusedError, RemoteRun

MAX_PARAM_LENGTH = 6000
MAX_PARAMS = 100
FILE = "config.yaml"


class ConfigWriter:
    """Sends `Config` records.

    MLflow never changes a param. A later value of one stands in the tag ``config/<name>`` and in ``config.yaml``, which
    always holds the last of everything.

    Args:
        remote: The run.
        artifacts: Where ``config.yaml`` goes.
        memory: Keeps the merged configuration, and the names.
        ledger: Is told of names, cut and changed values.
    """

    def __init__(self, remote: RemoteRun, artifacts: Artifacts, memory: Memory, ledger: Ledger) -> None:
        self._remote = remote
        self._artifacts = artifacts
        self._memory = memory
        self._ledger = ledger
        self._names = NameTable(clean_key, ledger, memory.kept.params, remote.params)

    def write(self, record: Config) -> None:
        """Sends one record's values and the whole file.

        Raises:
            TransientError: Not now.
            RejectedError: The run takes nothing any more.
            RefusedError: The store does not take the file.
        """
        kept = self._memory.kept
        if record.seq <= kept.config_seq:
            return
        values = dict(flatten(record.values))
        self._names.add(values)
        merged = merge(kept.config, record.values)
        self._memory.save()
        self._send_params(values)
        with tempfile.TemporaryDirectory(prefix="rl_logging-") as folder:
            path = Path(folder) / FILE
            path.write_text(yaml.safe_dump(merged, sort_keys=False, allow_unicode=True), encoding="utf-8")
            self._artifacts.put_file(path, FILE)
        kept.config, kept.config_seq = merged, record.seq
        self._memory.save()

    def _send_params(self, values: Mapping[str, str]) -> None:
        new: list[tuple[str, str]] = []
        changed: dict[str, str] = {}
        for name, value in values.items():
            key, stored = self._names[name], value
            if len(value) > MAX_PARAM_LENGTH:
                stored = value[:MAX_PARAM_LENGTH]
                self._ledger.truncated(name, f"{len(value)} characters cut to {MAX_PARAM_LENGTH}; whole in {FILE}")
            before = self._remote.params.get(key)
            if before is None:
                new.append((key, stored))
            elif before != stored:
                changed[key] = value
            elif f"config/{key}" in self._remote.tags:
                changed[key] = value  # Back at its first value: the tag must not keep the one in between.
        for chunk in chunks(new, MAX_PARAMS, lambda item: json_size(*item)):
            refused = dict(sift(chunk, self._send, RefusedError))
            self._remote.params.update(item for item in chunk if item not in refused)
            for (key, _), error in refused.items():
                self._ledger.truncated(key, f"refused as a param, so only in {FILE}: {error}")
        self._send_changed(changed)

    def _send(self, params: Sequence[tuple[str, str]]) -> None:
        from mlflow.entities import Param

        self._remote.log_batch(params=[Param(key, value) for key, value in params])

    def _send_changed(self, changed: Mapping[str, str]) -> None:
        tags = [(clean_key(f"config/{key}"), value[:MAX_TAG_LENGTH]) for key, value in changed.items()]
        for chunk in chunks(tags, MAX_PARAMS, lambda item: json_size(*item)):
            self._remote.set_tags(dict(chunk))
        if changed:
            names = ", ".join(list(changed)[:5]) + (", ..." if len(changed) > 5 else "")
            self._ledger.warn(
                f"MLflow keeps the first value of a param: the new one of {names} is in the tag 'config/<name>' "
                f"and in {FILE}"
            )


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields names joined by ``/`` and values as text: plain ones as Python writes them, lists as JSON."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else str(value)


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `old` with `new` added key by key, at every depth."""
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        merged[key] = merge(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged
