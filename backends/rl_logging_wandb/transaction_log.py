"""Reading W&B's transaction log (``run-<id>.wandb``) while wandb-core still writes it.

The format is LevelDB's log: after a 7-byte file header come blocks of 32 KiB; each holds chunks of a CRC-32 over type
and data, a length, a type and the data. A record is one full chunk, or a first, some middle and a last one.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wandb.proto.wandb_internal_pb2 import Record as WandbRecord

_log = logging.getLogger("rl_logging.wandb")

FILE_HEADER_BYTES: Final = 7
BLOCK_BYTES: Final = 32 * 1024
READ_BYTES: Final = 4 << 20
"""How much is read at once: the log of a long run is larger than memory should be."""

MOST_BYTES: Final = 256 << 20
"""What claims to be a larger record is none: ours have up to 16 MiB before they become W&B's JSON."""

CHUNK_HEADER: Final = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class TransactionLog:
    """A reader that goes on where it stopped; only what lies whole and unharmed on disk comes out of it.

    Args:
        path: The log; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = FILE_HEADER_BYTES
        self._broken = False

    def read(self) -> Iterator[WandbRecord]:
        """Yields the records that became readable since the last call."""
        size = READ_BYTES
        while not self._broken and self.path.exists():
            before = self._offset
            with self.path.open("rb") as file:
                file.seek(before)
                data = file.read(size)
            yield from self._records(data)
            if len(data) < size:
                return
            size = READ_BYTES if self._offset > before else 2 * size
            if size > MOST_BYTES:
                self._broken = True
                _log.warning("%s is unreadable from byte %d on: a record has no end", self.path, before)

    def _records(self, data: bytes) -> Iterator[WandbRecord]:
        """Yields the whole records in `data`, which lies where the last one ended."""
        start = self._offset
        parts: list[bytes] = []
        position = 0
        while True:
            left = BLOCK_BYTES - (start + position) % BLOCK_BYTES
            if left < CHUNK_HEADER.size:
                position += left
                continue
            if position + CHUNK_HEADER.size > len(data):
                return
            checksum, length, kind = CHUNK_HEADER.unpack_from(data, position)
            end = position + CHUNK_HEADER.size + length
            if end > len(data):
                return
            if zlib.crc32(data[position + CHUNK_HEADER.size - 1 : end]) != checksum:
                self._broken = True
                _log.warning("%s is unreadable from byte %d on: a checksum is wrong", self.path, start + position)
                return
            parts.append(data[position + CHUNK_HEADER.size : end])
            position = end
            if kind in (_FULL, _LAST):
                record = WandbRecord()
                record.ParseFromString(b"".join(parts))
                parts = []
                self._offset = start + position
                yield record
