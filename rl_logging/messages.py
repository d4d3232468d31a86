"""What the training process and its delivery process say to each other: JSON lines over two pipes."""

from __future__ import annotations

from typing import Any

import msgspec

from rl_logging.bundle.destination import DestinationState


class Serve(msgspec.Struct, frozen=True, tag="serve"):
    """Deliver this run directory, and sample the machine for it every so many seconds, if at all.

    A program that goes on with a run in the same process asks again, for another `part`.
    """

    run_dir: str
    patience_s: float
    system_metrics_s: float | None = None
    part: int = 0


class Wake(msgspec.Struct, frozen=True, tag="wake"):
    """Somebody waits, for so many seconds at most: look at once; None: at all runs."""

    run_dir: str | None = None
    wait_s: float = 0.0


class Hurry(msgspec.Struct, frozen=True, tag="hurry"):
    """The run is over and nobody waits any more: deliver what can be delivered, and wait for no store."""

    run_dir: str


Command = Serve | Wake | Hurry


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The delivery process is there."""

    version: str
    pid: int


class Changed(msgspec.Struct, frozen=True, tag="changed"):
    """A destination's state."""

    run_dir: str
    key: str
    state: DestinationState


class Warned(msgspec.Struct, frozen=True, tag="warned"):
    """What the user must see."""

    run_dir: str
    key: str
    message: str


class Sampled(msgspec.Struct, frozen=True, tag="sampled"):
    """Figures of the machine; the training process, which alone writes the journal, logs them."""

    run_dir: str
    values: dict[str, float]


class Left(msgspec.Struct, frozen=True, tag="left"):
    """The workers of this run directory have ended, or of a part of it."""

    run_dir: str
    part: int = 0


Event = Hello | Changed | Warned | Sampled | Left

_encoder = msgspec.json.Encoder()
_commands: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Command)
_events: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Event)


def line(message: Command | Event) -> bytes:
    """Returns a message as it goes over the pipe."""
    return _encoder.encode(message) + b"\n"


def command(data: bytes) -> Command:
    """Returns the command in a line."""
    decoded: Command = _commands.decode(data)
    return decoded


def event(data: bytes) -> Event:
    """Returns the event in a line."""
    decoded: Event = _events.decode(data)
    return decoded
