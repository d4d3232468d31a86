"""Telling what a file is by its first bytes, never by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PNG: Final = "png"
MP4: Final = "mp4"

# What each kind is called by the library that reads it: Pillow's format, ffmpeg's demuxer.
PILLOW_FORMATS: Final = {"jpeg": "JPEG", "gif": "GIF", "bmp": "BMP", "webp": "WEBP", "tiff": "TIFF", "ppm": "PPM"}
DEMUXERS: Final = {
    "gif": "gif",
    "webm": "matroska",
    "avi": "avi",
    "mov": "mov",
    "ogg": "ogg",
    "mpeg": "mpeg",
    "flv": "flv",
}

_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"\x1aE\xdf\xa3", "webm"),
    (b"OggS", "ogg"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"FLV\x01", "flv"),
    (b"P5", "ppm"),
    (b"P6", "ppm"),
    (b"BM", "bmp"),
)


def kind_of(path: Path) -> str | None:
    """Returns what the file is: ``png``, ``mp4``, or a key of `PILLOW_FORMATS` or `DEMUXERS`; None: unknown.

    Raises:
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(16)
    if start[4:8] == b"ftyp":
        return "mov" if start[8:12] == b"qt  " else MP4
    if start[:4] == b"RIFF":
        return {b"AVI ": "avi", b"WEBP": "webp"}.get(start[8:12])
    return next((kind for signature, kind in _SIGNATURES if start.startswith(signature)), None)
