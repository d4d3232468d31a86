"""Pictures and videos: dumped cheaply where they are logged, encoded to PNG and MP4 where they are delivered.

`dump_image` and `dump_video` run in the caller's thread and write raw pixels (or copy a file); `materialize` runs on
the delivery side and makes the final file, once, from what was dumped.

The modules behind these names, and NumPy with them, are imported when the first picture comes: who logs scalars alone
never pays for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rl_logging.media.errors import MediaError
from rl_logging.media.names import slug

if TYPE_CHECKING:
    from rl_logging.media.dump import RAW_LIMIT_BYTES, dump_image, dump_video
    from rl_logging.media.finals import materialize

__all__ = ["RAW_LIMIT_BYTES", "MediaError", "dump_image", "dump_video", "materialize", "slug"]

_HOMES = {"RAW_LIMIT_BYTES": "dump", "dump_image": "dump", "dump_video": "dump", "materialize": "finals"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
