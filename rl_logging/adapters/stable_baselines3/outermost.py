"""Hearing of a training's steps below a callback that passes on few of them, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from rl_logging.adapters.stable_baselines3.stand_in import StandIn


def outermost(callback: BaseCallback) -> BaseCallback | None:
    """Returns the callback above all others that `callback` stands below; None where it stands below none.

    It is the one that the algorithm tells of everything. A ``CallbackList`` passes everything on, and is above nobody.
    """
    found: list[BaseCallback] = []
    above = callback.parent
    while above is not None and above is not callback and above not in found:
        found.append(above)
        above = above.parent
    return found[-1] if found else None


class CallbackTap:
    """Listens to what an algorithm tells a callback, by attributes of the instance.

    Args:
        callback: The callback.
        listeners: What is called before each of its methods, by the method's name; may not raise.
    """

    def __init__(self, callback: BaseCallback, listeners: Mapping[str, Callable[[], object]]) -> None:
        self._standins = [_Told(callback, name, listener) for name, listener in listeners.items()]

    def leave(self) -> None:
        """Leaves the callback as it was found. Idempotent."""
        for standin in self._standins:
            standin.listener = None
            standin.remove()


class _Told(StandIn):
    def __init__(self, target: Any, name: str, listener: Callable[[], object]) -> None:
        self.listener: Callable[[], object] | None = listener
        super().__init__(target, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.listener is not None:
            self.listener()
        return self.inner(*args, **kwargs)
