"""What a store holds of one run, in one form for all stores, so that one suite can judge them.

A sink's author writes a small reader that returns a `Stored`, by the store's own means of reading (its client, its
file format's parser), never by the sink's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class StoredPoint(NamedTuple):
    """One value of one series; a plain (name, step, value) will do instead.

    Attributes:
        name: As the store has it.
        step: Position on the run's clock; None where the store keeps none for this point.
        value: The value.
    """

    name: str
    step: int | None
    value: float


class StoredFile(NamedTuple):
    """One picture or video; a plain tuple will do instead.

    Attributes:
        name: The record's name as the store has it.
        step: Position on the run's clock; None where the store keeps none.
        content: The file's bytes; None where the reader does not give them, and they are not compared.
    """

    name: str
    step: int | None = None
    content: bytes | None = None


class StoredFolder(NamedTuple):
    """One model or artifact; a plain tuple will do instead.

    Attributes:
        name: The record's name as the store has it.
        step: Position on the run's clock; None where the store keeps none.
        files: Bytes by path relative to the model's folder; an artifact that is one file has one entry. More files
            than were sent may be there. None where the reader does not give them, and they are not compared.
        metadata: The record's metadata; None where the store has no place for it.
    """

    name: str
    step: int | None = None
    files: Mapping[str, bytes] | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a store holds of one run; None for each kind of thing it has no notion of.

    Attributes:
        points: All values of all series, each as often as the store has it.
        config: The configuration, nested or with names joined by ``/``; values may be their text.
        images: Pictures.
        videos: Videos.
        models: Models.
        artifacts: The user's files and folders.
        tags: The run's tags.
        notes: The run's notes.
        environment: Names (or paths) of the files that describe the run's surroundings.
        status: ``finished``, ``failed`` or ``killed``; ``running`` while it is not ended.
    """

    points: Sequence[tuple[str, int | None, float]] | None = None
    config: Mapping[str, Any] | None = None
    images: Sequence[tuple[Any, ...]] | None = None
    videos: Sequence[tuple[Any, ...]] | None = None
    models: Sequence[tuple[Any, ...]] | None = None
    artifacts: Sequence[tuple[Any, ...]] | None = None
    tags: Sequence[str] | None = None
    notes: str | None = None
    environment: Sequence[str] | None = None
    status: str | None = None

    def series(self, name: str) -> list[tuple[int | None, float]]:
        """Returns the points of `name` as (step, value), in the store's order."""
        return [(step, value) for own, step, value in self.points or () if own == name]
