"""Telling whether a video file that somebody else writes has been written to its end."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, Final

from rl_logging.media.kinds import DEMUXERS, MP4, kind_of

_ISO: Final = (MP4, "mov")
_GIF_END: Final = b";"


def is_whole(path: Path) -> bool:
    """Returns whether `path` is a video that has its end.

    MP4 and QuickTime tell it by their boxes (ISO/IEC 14496-12, 4.2): these fill the file exactly, and the index
    (``moov``), which is written last, is among them. A GIF has its trailer. Of another format this cannot be seen: it
    is whole for what is known.

    Raises:
        OSError: It cannot be read.
    """
    kind = kind_of(path)
    if kind in _ISO:
        with open(path, "rb") as file:
            return _boxes_fit(file, os.fstat(file.fileno()).st_size)
    if kind == "gif":
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == _GIF_END
    return kind in DEMUXERS


def _boxes_fit(file: BinaryIO, size: int) -> bool:
    """Whether top-level boxes fill `size` bytes, an index and media data among them."""
    at, names = 0, set()
    while at < size:
        file.seek(at)
        header = file.read(16)
        if len(header) < 8:
            return False
        length, name = struct.unpack(">I4s", header[:8])
        least = 8
        if length == 1:
            if len(header) < 16:
                return False
            (length,) = struct.unpack(">Q", header[8:])
            least = 16
        elif length == 0:  # to the end of the file: what an unfinished ``mdat`` says too, but that has no index yet
            length = size - at
        if length < least:
            return False
        names.add(name)
        at += length
    return at == size and b"moov" in names and bool({b"mdat", b"moof"} & names)
