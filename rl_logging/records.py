"""The record types: what a log call becomes, and what a sink is handed.

A record is an envelope (``seq``, ``time``, ``step``, kind) and a body. In the journal it is the msgpack array
``[seq, time, step, kind, body]``, so that the envelope decodes without the body and a reader that does not know a
kind can still keep and count it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

import msgspec

RunStatus = Literal["finished", "failed", "killed"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What every record has.

    Attributes:
        seq: Position in the run, from 1, rising in the order the records were accepted.
        time: Wall-clock seconds since the epoch when it was logged. The clock never goes back within one process; a
            record whose values came from a device stands behind later ones, with the time of its call.
        step: Position on the run's clock (environment steps where an adapter stamps it); None for what has none.
    """

    seq: int
    time: float
    step: int | None = None

    kind: ClassVar[str] = ""


class Metrics(Record, frozen=True, kw_only=True):
    """Scalars of one moment: flat names to floats, NaN and the infinities included."""

    values: dict[str, float]

    kind: ClassVar[str] = "metrics"


class Config(Record, frozen=True, kw_only=True):
    """A part of the configuration, nested, JSON values only; later parts add to earlier ones key by key."""

    values: dict[str, Any]

    kind: ClassVar[str] = "config"


class Image(Record, frozen=True, kw_only=True):
    """A picture; `path` is relative to the run directory and names a PNG, once delivery has made it."""

    name: str
    path: str
    caption: str | None = None

    kind: ClassVar[str] = "image"


class Video(Record, frozen=True, kw_only=True):
    """A video; `path` is relative to the run directory and names an MP4, once delivery has made it."""

    name: str
    path: str
    fps: float = 30.0
    caption: str | None = None

    kind: ClassVar[str] = "video"


class Model(Record, frozen=True, kw_only=True):
    """A saved model: `path` is a folder below the run directory, with `metadata.json` beside the model's own files.

    With `register`, stores that have a registry of models make it a version of the registered model of that name, and
    `aliases` are the version's too.
    """

    name: str
    path: str
    metadata: dict[str, Any] = {}
    aliases: tuple[str, ...] = ()
    register: str | None = None

    kind: ClassVar[str] = "model"


class Artifact(Record, frozen=True, kw_only=True):
    """A file or folder of the user's, copied below the run directory at `path`."""

    name: str
    path: str
    type: str = "file"
    metadata: dict[str, Any] = {}

    kind: ClassVar[str] = "artifact"


class Environment(Record, frozen=True, kw_only=True):
    """Where and from what the run was started.

    Attributes:
        path: ``environment.json`` relative to the run directory.
        patch: ``diff.patch``, the working tree's uncommitted changes; None where there are none or no repository.
        facts: What stores show beside a run, each a string: ``source`` (the program), ``git_commit``, ``git_branch``,
            ``git_remote``, ``user``, ``host``, ``python``; absent where unknown.
    """

    path: str
    patch: str | None = None
    facts: dict[str, str] = {}

    kind: ClassVar[str] = "environment"


class Labels(Record, frozen=True, kw_only=True):
    """Tags or notes set after the start; None leaves that one as it was. `tags` replaces the set as a whole."""

    tags: tuple[str, ...] | None = None
    notes: str | None = None

    kind: ClassVar[str] = "labels"


class End(Record, frozen=True, kw_only=True):
    """The run's end as the training process saw it; a journal without one belongs to a run that was killed."""

    status: RunStatus

    kind: ClassVar[str] = "end"


class Unknown(Record, frozen=True, kw_only=True):
    """A record of a kind this version does not know: kept, counted and owed, never passed by."""

    name: str

    kind: ClassVar[str] = "unknown"


KINDS: Final[Mapping[str, type[Record]]] = {
    cls.kind: cls for cls in (Metrics, Config, Image, Video, Model, Artifact, Environment, Labels, End)
}


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """A record as the journal holds it, its body not yet decoded."""

    seq: int
    time: float
    step: int | None
    kind: str
    body: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_envelope_decoder = msgspec.msgpack.Decoder(Envelope)
_values_decoder = msgspec.msgpack.Decoder(dict[str, float])
_body_decoder = msgspec.msgpack.Decoder(dict[str, Any])


def encode(seq: int, time: float, step: int | None, kind: str, body: object) -> bytes:
    """Returns the msgpack payload of one record; `body` is what `decode` expects of that kind."""
    return _encoder.encode((seq, time, step, kind, body))


def decode_envelope(payload: bytes | memoryview) -> Envelope:
    """Returns the envelope of `payload`.

    Raises:
        msgspec.DecodeError: The bytes are no record (`msgspec.ValidationError` where they are msgpack).
    """
    return _envelope_decoder.decode(payload)


def decode(envelope: Envelope) -> Record:
    """Returns the whole record; one of an unknown kind comes back as `Unknown`.

    Raises:
        msgspec.DecodeError: The body does not fit the kind.
    """
    if envelope.kind == Metrics.kind:
        return Metrics(
            seq=envelope.seq, time=envelope.time, step=envelope.step, values=_values_decoder.decode(envelope.body)
        )
    cls = KINDS.get(envelope.kind)
    if cls is None:
        return Unknown(seq=envelope.seq, time=envelope.time, step=envelope.step, name=envelope.kind)
    body = _body_decoder.decode(envelope.body)
    if cls is Config:
        body = {"values": body}
    return msgspec.convert({**body, "seq": envelope.seq, "time": envelope.time, "step": envelope.step}, cls)


def body_of(record: Record) -> dict[str, Any]:
    """Returns the body under which `record` is written: its own fields, the envelope's left out."""
    if isinstance(record, (Metrics, Config)):
        return record.values
    own = record.__struct_fields__[3:]
    return {name: getattr(record, name) for name in own}
