"""From one value to a float, or to the aggregates of its elements.

Nothing here imports torch, JAX or pandas: a value is taken by what it can do (``__float__``, ``item``, ``__array__``,
``detach``), and NumPy is imported when the first array comes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence, Set
from typing import Any, Final, NamedTuple

from rl_logging.extraction.converters import Converter, converter_of

MAX_DEPTH: Final = 32
"""Levels of nesting that are followed where the caller sets no other limit."""

_TEXT: Final = (str, bytes, bytearray, memoryview)
_PLAIN: Final = frozenset({float, int, bool})


class Spread(NamedTuple):
    """Aggregates of several elements; `std` is the population's, and a NaN among them makes all four NaN."""

    mean: float
    std: float
    min: float
    max: float


class ValueConversionError(TypeError):
    """A value cannot be a metric; the message says why.

    Attributes:
        key: Of what it is told once; None: of the metric's name.
    """

    key: str | None = None


def convert(value: object) -> float | Spread | None:
    """Returns the float that `value` is, or the aggregates of its elements; None where it has none.

    Raises:
        ValueConversionError: It is no number and its elements are none.
    """
    try:
        return _convert(value)
    except ValueConversionError:
        raise
    except OverflowError:
        raise ValueConversionError("too large for a float") from None
    except Exception as error:
        # What a foreign object's conversion raises is its own affair, and never the training's.
        raise ValueConversionError(f"{type(error).__name__}: {error}") from error


def converted_by(converter: Converter, value: object) -> object:
    """Returns what the user's converter makes of `value`.

    Raises:
        ValueConversionError: It raises.
    """
    try:
        return converter(value)
    except Exception as error:
        told = ValueConversionError(f"the converter registered for it raised {type(error).__name__}: {error}")
        told.key = f"converter {kind_of(type(value))}"
        raise told from error


def kind_of(kind: type) -> str:
    """Returns what a type is called in a message."""
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _convert(value: Any) -> float | Spread | None:
    if isinstance(value, (float, int)):  # with them bool and np.float64
        return float(value)
    if isinstance(value, (*_TEXT, type)):
        raise ValueConversionError("not a number")
    if hasattr(value, "detach"):
        return _of_tensor(value.detach())
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return _of_item(value.item())
    if hasattr(value, "__array__"):
        return _of_array(_array(value))
    if isinstance(value, Sequence):
        return _of_array(_elements(value, MAX_DEPTH))
    if isinstance(value, Set):
        return _of_array(_elements(list(value), MAX_DEPTH))
    if hasattr(value, "__float__"):
        return float(value)
    if hasattr(value, "item"):
        return _of_item(value.item())
    raise ValueConversionError("no number, array or sequence")


def _of_item(item: Any) -> float:
    if isinstance(item, (complex, *_TEXT)) or not hasattr(item, "__float__"):
        raise ValueConversionError(f"its value is a {type(item).__name__}")
    return float(item)


def _of_tensor(tensor: Any) -> float | Spread | None:
    """Returns what a detached torch tensor, or what behaves like one, holds."""
    count = tensor.numel()
    if count == 0:
        return None
    if count == 1:
        return _of_item(tensor.item())
    if tensor.is_complex():
        raise ValueConversionError("its elements are complex")
    if getattr(tensor.device, "type", "cpu") == "cpu":
        return _of_array(tensor.double().numpy())
    # Four figures cross over in one copy, not all elements; not every device knows float64.
    values = tensor.float()
    stack = sys.modules["torch"].stack
    return Spread(*stack([values.mean(), values.std(unbiased=False), values.min(), values.max()]).tolist())


def _of_array(array: Any) -> float | Spread | None:
    """Returns what an array of float64 holds."""
    import numpy as np

    if array.size == 0:
        return None
    if array.size == 1:
        return float(array.item())
    add = np.add.reduce  # `mean` and `std` do this too, and spend twice the time on their arguments
    with np.errstate(all="ignore"):  # infinities among the elements make a NaN of std, which is meant
        mean = add(array, axis=None) / array.size
        away = array - mean
        np.multiply(away, away, out=away)
        std = math.sqrt(add(away, axis=None) / array.size)
        return Spread(float(mean), std, float(array.min()), float(array.max()))


def _array(value: Any) -> Any:
    """Returns an array-like as an array of float64."""
    import numpy as np

    array = value.compressed() if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
    kind = array.dtype.kind
    if kind in "fiub":
        return array.astype(np.float64, copy=False)
    if kind == "O":
        if array.shape == ():
            raise ValueConversionError("its element is an object")
        return _elements(array.ravel().tolist(), MAX_DEPTH)
    if kind == "V" and array.dtype.names is None:
        return array.astype(np.float64)  # bfloat16 and its kin, which NumPy does not know itself
    raise ValueConversionError(f"its elements are of type {array.dtype}")


def _elements(values: Sequence[Any], depth: int) -> Any:
    """Returns the elements of a sequence, nested or not, as one flat array of float64; None ones are left out."""
    import numpy as np

    if {*map(type, values)} <= _PLAIN:
        return np.asarray(values, dtype=np.float64)
    if depth <= 0:
        raise ValueConversionError("nested too deeply, or containing itself")
    parts = []
    for given in values:
        converter = converter_of(type(given))
        element = given if converter is None else converted_by(converter, given)
        if element is None:
            continue
        if isinstance(element, _TEXT):
            raise ValueConversionError("it holds text")
        if hasattr(element, "detach"):
            tensor = element.detach().cpu()
            if tensor.is_complex():
                raise ValueConversionError("its elements are complex")
            parts.append(tensor.double().numpy().ravel())
        elif hasattr(element, "__array__"):
            parts.append(_array(element).ravel())
        elif isinstance(element, Sequence):
            parts.append(_elements(element, depth - 1))
        elif isinstance(element, Mapping) or not hasattr(element, "__float__"):
            raise ValueConversionError(f"it holds a {type(element).__name__}")
        else:
            parts.append(np.array([float(element)]))
    return np.concatenate(parts) if parts else np.zeros(0)
