"""Standing in for methods of a framework's object, by attributes of the instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class StandIn:
    """An attribute in a method's place; a copy of the object, by pickle or deepcopy, has the plain method there.

    Args:
        target: The object.
        name: The method's name.

    Attributes:
        inner: What was found there.
    """

    def __init__(self, target: Any, name: str) -> None:
        self._target = target
        self._name = name
        self._own = vars(target).get(name)
        self.inner: Callable[..., Any] = getattr(target, name)
        setattr(target, name, self)

    def remove(self) -> None:
        """Puts back what was there; where somebody has put theirs over this one, it goes on as a mere passage."""
        if vars(self._target).get(self._name) is not self:
            return
        if self._own is None:
            delattr(self._target, self._name)
        else:
            setattr(self._target, self._name, self._own)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._target, self._name)
