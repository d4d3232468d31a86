"""Tags and notes that change while a run goes on."""

from __future__ import annotations

import json

from rl_logging.records import Labels
from rl_logging.sinks import Ledger
from rl_logging_mlflow.opening import LABELS_TAG, MAX_TAG_LENGTH, label_tags
from rl_logging_mlflow.remote import RemoteRun, asking


def write_labels(record: Labels, remote: RemoteRun, ledger: Ledger, fixed: frozenset[str]) -> None:
    """Replaces the run's labels by the record's, and its notes.

    Args:
        record: The new ones.
        remote: The run.
        ledger: Is told of a note that is too long.
        fixed: Keys of tags that are no labels and stay.

    Raises:
        TransientError: Not now.
        RejectedError: The run takes nothing any more.
        RefusedError: Not these.
    """
    tags: dict[str, str] = {}
    if record.notes is not None:
        tags["mlflow.note.content"] = record.notes[:MAX_TAG_LENGTH]
        if len(record.notes) > MAX_TAG_LENGTH:
            ledger.truncated("notes", f"{len(record.notes)} characters cut to {MAX_TAG_LENGTH}")
    if record.tags is not None:
        before = set(label_tags(tuple(json.loads(remote.tags.get(LABELS_TAG, "[]"))))) - {LABELS_TAG}
        tags |= label_tags(record.tags) or {LABELS_TAG: "[]"}
        for key in sorted(before - set(tags) - fixed):
            if key in remote.tags:
                with asking(remote.uri):
                    remote.client.delete_tag(remote.id, key)
                del remote.tags[key]
    remote.set_tags(tags)
