"""Listening to one stable-baselines3 logger: what is recorded into it, and when it writes."""

from __future__ import annotations

from typing import Any, Final, Protocol

from rl_logging.adapters.stable_baselines3.stand_in import StandIn

OWN_FORMAT: Final = "rl_logging"
"""In ``exclude``, what keeps a value from being logged here; other formats' names say nothing about us."""


class Listener(Protocol):
    """What hears of a logger's calls. None of these may raise."""

    def on_record(self, key: str, value: Any, *, mean: bool = False) -> None:
        """Told after a value was recorded."""
        ...

    def on_dump(self, step: Any) -> None:
        """Told before the logger writes what it holds, and forgets it."""
        ...


class LoggerTap:
    """Stands in for three methods of one logger, by attributes of the instance, while anybody listens.

    One serves all listeners: they can leave in any order, and the last one leaves the logger as it was found. The
    model is never touched, as it must stay possible to save it.

    Args:
        target: The stable-baselines3 logger.
    """

    def __init__(self, target: Any) -> None:
        self.target = target
        self.listeners: tuple[Listener, ...] = ()
        self._standins = [_Record(self, "record"), _RecordMean(self, "record_mean"), _Dump(self, "dump")]

    @classmethod
    def listen(cls, target: Any, listener: Listener) -> LoggerTap:
        """Adds `listener` to the tap of the logger `target`, placing one where there is none."""
        standin = vars(target).get("record")
        tap = standin.tap if isinstance(standin, _ToLogger) and standin.tap.target is target else cls(target)
        tap.listeners += (listener,)
        return tap

    def leave(self, listener: Listener) -> None:
        """Takes `listener` out, and with the last one the tap. Idempotent."""
        self.listeners = tuple(other for other in self.listeners if other is not listener)
        if not self.listeners:
            for standin in self._standins:
                standin.remove()


class _ToLogger(StandIn):
    def __init__(self, tap: LoggerTap, name: str) -> None:
        self.tap = tap
        super().__init__(tap.target, name)


class _Record(_ToLogger):
    # Called many times in a step by some algorithms, so there is nothing here that need not be.
    def __call__(self, key: str, value: Any, exclude: Any = None, *args: Any, **kwargs: Any) -> Any:
        result = self.inner(key, value, exclude, *args, **kwargs)
        if exclude is None or not is_excluded(exclude):
            for listener in self.tap.listeners:
                listener.on_record(key, value)
        return result


class _RecordMean(_ToLogger):
    def __call__(self, key: str, value: Any, exclude: Any = None, *args: Any, **kwargs: Any) -> Any:
        result = self.inner(key, value, exclude, *args, **kwargs)
        if exclude is None or not is_excluded(exclude):
            for listener in self.tap.listeners:
                listener.on_record(key, value, mean=True)
        return result


class _Dump(_ToLogger):
    def __call__(self, step: Any = 0, *args: Any, **kwargs: Any) -> Any:
        for listener in self.tap.listeners:
            listener.on_dump(step)
        return self.inner(step, *args, **kwargs)


def is_excluded(exclude: Any) -> bool:
    """Returns whether an ``exclude`` names this package."""
    return exclude is not None and OWN_FORMAT in ((exclude,) if isinstance(exclude, str) else exclude)
