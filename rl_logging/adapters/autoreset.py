"""When vector environments reset themselves: in the step that ends an episode, or in the one after it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


def resets_in_a_step(env: Any) -> bool | None:
    """Returns whether an environment spends a step on resetting itself; None where it does not reset itself, or say.

    Args:
        env: Any environment; of one that skrl has wrapped, what is below counts.
    """
    metadata = getattr(env, "metadata", None)
    mode = metadata.get("autoreset_mode") if isinstance(metadata, Mapping) else None
    if mode is not None:
        return str(getattr(mode, "value", mode)) == "NextStep"
    gymnasium = sys.modules.get("gymnasium")
    if gymnasium is None or not isinstance(getattr(env, "_env", env), gymnasium.vector.VectorEnv):
        return None
    # Before 1.1 there was no word for it: 0.x resets in the same step, 1.0 in the next.
    return str(gymnasium.__version__).startswith("1.0")
