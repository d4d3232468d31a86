"""What a stable-baselines3 logger holds: recorded, and not written yet."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from stable_baselines3.common.logger import DISABLED

from rl_logging.adapters.stable_baselines3.media import KINDS
from rl_logging.adapters.stable_baselines3.tap import is_excluded


def held_values(target: Any, heard: Collection[str], log_media: Callable[[str, Any], None]) -> dict[str, Any]:
    """Returns what a logger would write now.

    Args:
        target: The logger.
        heard: The keys of which it was told since the last write.
        log_media: Called with each picture or video of which was not told: it is from before the training.
    """
    values = {
        key: value
        for key, value in dict(target.name_to_value).items()
        if not is_excluded(target.name_to_excluded.get(key))
        # One that is disabled neither writes nor forgets, so that what it holds may be old.
        and (target.level != DISABLED or key in heard)
    }
    for key in [key for key, value in values.items() if isinstance(value, KINDS)]:
        media = values.pop(key)
        if key not in heard:
            log_media(key, media)
    return values
