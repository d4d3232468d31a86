"""Standing in for a method of one object: what is called instead of it, copied with it, and taken away again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from rl_logging.adapters.skrl.passage import Passage, StandIn

Around = Callable[[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]], Any]
"""Called with the original method and the call's arguments; calls the original once and returns its result."""


class Hook:
    """An instance attribute in place of a method.

    A copy of the object (by deepcopy, or by pickle as for another process) has the plain method in its place.

    Args:
        target: The object.
        name: The method's name.
        around: What runs instead while the hook is in place.
        owner: Whose hook it is.
        on_copy: Told when the object is being copied in this process.
        on_pickle: Asked for what travels with it when it is pickled, or None for nothing.
    """

    def __init__(
        self,
        target: Any,
        name: str,
        around: Around,
        owner: object,
        on_copy: Callable[[], None],
        on_pickle: Callable[[], Passage | None] = lambda: None,
    ) -> None:
        self.target = target
        self.name = name
        self.owner = owner
        self._around: Around | None = around
        self._on_copy = on_copy
        self._on_pickle = on_pickle
        self._own = vars(target).get(name)
        self._inner: Callable[..., Any] = getattr(target, name)
        setattr(target, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the method, with what runs around it."""
        if self._around is None:
            return self._inner(*args, **kwargs)
        return self._around(self._inner, args, kwargs)

    @property
    def active(self) -> bool:
        """Whether it still runs something around the method."""
        return self._around is not None

    def remove(self) -> None:
        """Puts back what was there; where somebody has since put theirs over this one, it only becomes transparent."""
        self._around = None
        if vars(self.target).get(self.name) is not self:
            return
        if self._own is None:
            delattr(self.target, self.name)
        else:
            setattr(self.target, self.name, self._own)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Copies as the plain method, bound to the copied object."""
        self._on_copy()
        if self._own is not None:
            return copy.deepcopy(self._own, memo)
        return StandIn(copy.deepcopy(self.target, memo), self.name, None)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as the plain method, bound to the copied object, with what travels with that."""
        if self._own is not None:
            return (_same, (self._own,))
        return (StandIn, (self.target, self.name, self._on_pickle()))


def _same(value: Any) -> Any:
    return value
