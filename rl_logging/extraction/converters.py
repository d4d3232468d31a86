"""Values of the user's own types: what `register_converter` has been told."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, Final

Converter = Callable[[Any], object]

_PLAIN: Final = frozenset({float, int, bool})
scalars: Final[set[type]] = {*_PLAIN}
"""Types of which `float` makes the number that is logged, as far as they are known; NumPy's come as they are met."""

tensors: Final[set[type]] = set()
"""Torch's own tensor types, as far as no converter is registered for them."""

_converters: dict[type, Converter] = {}
_known: dict[type, Converter | None] = {}


def register_converter(type: type, fn: Callable[[Any], object]) -> None:
    """Says how values of a type become metrics, in `ExperimentLogger.log_metrics` and in the adapters alike.

    It holds for the whole process, for the type's subclasses too, and before whatever is known of such values
    otherwise; of several the nearest base class's counts. Registered again, a type gets the new function.

    Args:
        type: The type.
        fn: Returns what `ExperimentLogger.log_metrics` takes as a value: a number, an array, or a mapping of names
            to those, which become ``name/key``; None for nothing to log. Where it raises, the value is left out, which
            is told once for the type.

    Raises:
        TypeError: `type` is no class, or `float`, `int`, `bool` or None's, which need no conversion; or `fn` cannot be
            called.
    """
    if not isinstance(type, builtins.type):
        raise TypeError(f"register_converter: got {type!r} as the type, may be a class")
    if type in (*_PLAIN, builtins.type(None)):
        raise TypeError(f"register_converter: values of {type.__name__} are logged as they are; register another type")
    if not callable(fn):
        raise TypeError(f"register_converter: got {fn!r} as the function for {type.__name__}, may be a callable")
    _converters[type] = fn
    _known.clear()
    scalars.intersection_update(_PLAIN)
    tensors.clear()


def converter_of(kind: type) -> Converter | None:
    """Returns the function for values of `kind`; None without one."""
    if not _converters:
        return None
    try:
        return _known[kind]
    except KeyError:
        found = next((_converters[base] for base in kind.__mro__ if base in _converters), None)
        _known[kind] = found
        return found
