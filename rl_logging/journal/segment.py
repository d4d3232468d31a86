"""What a segment looks like on disk: header, frames, names; and finding a whole frame in damaged bytes."""

from __future__ import annotations

import os
import re
import struct
import zlib
from pathlib import Path
from typing import Final

import msgspec

MAGIC: Final = b"\x93RLJ\r\n\x1a\n"
VERSION: Final = 1
MAX_PAYLOAD_BYTES: Final = 16 << 20
SEGMENT_BYTES: Final = 64 << 20

FRAME: Final = struct.Struct("<II")
HEADER: Final = struct.Struct("<8sHHI")
LENGTH: Final = struct.Struct("<I")
_PAYLOAD_START: Final = 0x95  # msgpack's five-element array, with which every record begins
_NAME: Final = re.compile(r"^(\d{8})\.rlj$")


class JournalError(Exception):
    """A record was not accepted, or a segment is not ours; the message says which and why."""


class SegmentHeader(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a segment says of itself.

    Attributes:
        run: The run's id.
        first_seq: The seq of its first record.
        follows: The number of the writer's segment before, and the byte up to which that holds what was accepted: what
            stands behind is a record that was not. None for a writer's first.
    """

    run: str
    first_seq: int
    follows: tuple[int, int] | None = None


class Damage(msgspec.Struct, frozen=True):
    """A place at which a reader found something other than a whole frame."""

    segment: str
    offset: int
    why: str


def segments(folder: Path) -> list[Path]:
    """Returns the segment files of `folder`, oldest first."""
    try:
        with os.scandir(folder) as entries:
            # Regular files only: in a bundle from elsewhere a pipe could stand in a segment's place.
            names = sorted(
                entry.name for entry in entries if _NAME.match(entry.name) and entry.is_file(follow_symlinks=False)
            )
    except FileNotFoundError:
        return []
    return [folder / name for name in names]


def number_of(segment: Path) -> int:
    """Returns a segment's number."""
    match = _NAME.match(segment.name)
    assert match is not None
    return int(match[1])


def make_header(header: SegmentHeader) -> bytes:
    """Returns the bytes with which a segment begins."""
    payload = msgspec.msgpack.encode(header)
    return HEADER.pack(MAGIC, VERSION, len(payload), zlib.crc32(payload)) + payload


def read_header(path: Path) -> tuple[SegmentHeader, int] | None:
    """Returns a segment's header and the offset of its first frame; None where it has no whole header.

    Raises:
        JournalError: The segment was written by a newer rl_logging.
    """
    try:
        with open(path, "rb") as file:
            fixed = file.read(HEADER.size)
            if len(fixed) < HEADER.size:
                return None
            magic, version, size, crc = HEADER.unpack(fixed)
            payload = file.read(size)
    except FileNotFoundError:
        return None
    if magic != MAGIC:
        return None
    if version > VERSION:
        raise JournalError(f"{path} has format version {version}: it needs a newer rl_logging than this one")
    if len(payload) < size or zlib.crc32(payload) != crc:
        return None
    try:
        return msgspec.msgpack.decode(payload, type=SegmentHeader), HEADER.size + size
    except msgspec.DecodeError:
        return None


def resynchronise(data: bytes, start: int) -> int | None:
    """Returns the offset of the first whole frame at or after `start`; None where there is none."""
    view = memoryview(data)
    marker = bytes([_PAYLOAD_START])
    at = data.find(marker, start + FRAME.size)
    while at >= 0:
        begin = at - FRAME.size
        size, crc = FRAME.unpack_from(data, begin)
        if (
            0 < size <= min(len(data) - at, MAX_PAYLOAD_BYTES)
            and zlib.crc32(view[at : at + size], zlib.crc32(view[begin : begin + 4])) == crc
        ):
            return begin
        at = data.find(marker, at + 1)
    return None
