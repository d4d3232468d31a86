"""The one error about pictures and videos."""

from __future__ import annotations


class MediaError(ValueError):
    """What was given is no picture or video, or what was dumped is damaged; the message says what it may be."""
