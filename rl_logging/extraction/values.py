"""From what people log to floats: `flatten` and what it is made of.

Nothing here imports torch, JAX or pandas: a value is taken by what it can do (``__float__``, ``item``, ``__array__``,
``detach``), and NumPy is imported when the first array comes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, Final, NamedTuple

from rl_logging.extraction.converters import Converter, converter_of, scalars

Warn = Callable[[str, str], None]
"""Called with a key, once per key of which the caller shows it, and a message."""

Wanted = Callable[[str], bool]
"""Says of a name whether anything of it may be logged, so that its value is worth converting."""

MAX_DEPTH: Final = 32
"""Levels of nesting that are followed where the caller sets no other limit."""

AGGREGATES: Final = ("mean", "std", "min", "max")
"""What a value of several elements becomes, as the last part of its name."""

_ONLY_FLOATS: Final = {float}
_ONLY_STRINGS: Final = {str}
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


def flatten(
    metrics: Mapping[str, object], warn: Warn, *, max_depth: int | None = None, wanted: Wanted | None = None
) -> dict[str, float]:
    """Returns names to floats.

    Numbers, NumPy and torch scalars, arrays of no dimension or one element are one value; arrays, tensors and
    sequences of more become ``name/mean``, ``/std``, ``/min`` and ``/max``; nested mappings ``a/b``; None is skipped;
    NaN and the infinities are kept; a value of a type with a converter is what that returns. What is anything else is
    told through `warn`, and the rest kept.

    Args:
        metrics: What was logged. Keys that are no strings are made strings.
        warn: Called with (key, message) for what is left out.
        max_depth: How many levels below the top are followed; None: `MAX_DEPTH`.
        wanted: Asked before a value is converted. Plain numbers are not asked about: they cost less than the question.

    Raises:
        TypeError: `metrics` is no mapping.
    """
    # The tests run in C: for the flat dict of scalars that nearly every call is, they cost less than a loop.
    if type(metrics) is dict and {*map(type, metrics)} == _ONLY_STRINGS and "" not in metrics:
        kinds = {*map(type, metrics.values())}
        if kinds == _ONLY_FLOATS:
            return metrics.copy()
        if kinds <= scalars or _learn(kinds):
            try:
                return dict(zip(metrics, map(float, metrics.values()), strict=True))
            except OverflowError:
                pass  # an integer too large: told below, and the rest kept
    if not hasattr(metrics, "items"):
        raise TypeError(f"got a {type(metrics).__name__}, may be a mapping of names to values")
    flat: dict[str, float] = {}
    for name, value in leaves(metrics, warn, max_depth=max_depth, wanted=wanted):
        for key, figure in ((name, value),) if isinstance(value, float) else _named(name, value).items():
            if key in flat:
                warn(key, f"metric '{key}': given twice in one call, in different spellings: the later one was kept")
            flat[key] = figure
    return flat


def _learn(kinds: set[type]) -> bool:
    """Whether all of `kinds` are scalars that `float` converts; NumPy's are remembered from then on."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    new = kinds - scalars
    known = (numpy.floating, numpy.integer, numpy.bool_)
    if not all(issubclass(kind, known) and converter_of(kind) is None for kind in new):
        return False
    scalars.update(new)
    return True


def leaves(
    metrics: Mapping[str, object], warn: Warn, *, max_depth: int | None = None, wanted: Wanted | None = None
) -> Iterator[tuple[str, float | Spread]]:
    """Yields each name with its float, or with the aggregates of its elements; arguments as in `flatten`."""
    return _leaves(metrics, "", warn, wanted, MAX_DEPTH if max_depth is None else max_depth, [])


def aggregate(name: str, array_like: object) -> dict[str, float]:
    """Returns the aggregates of `array_like` as ``name/mean``, ``/std``, ``/min`` and ``/max``.

    They are computed in float64 (float32 where the elements lie on a device), the standard deviation is the
    population's, and a NaN among the elements makes all of them NaN. One element is ``{name: element}``, none is
    ``{}``.

    Raises:
        TypeError: Its elements are no numbers.
    """
    value = convert(array_like)
    if value is None:
        return {}
    return {name: value} if isinstance(value, float) else _named(name, value)


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


def _named(name: str, spread: Spread) -> dict[str, float]:
    return {f"{name}/{part}": figure for part, figure in zip(AGGREGATES, spread, strict=True)}


def _leaves(
    metrics: Mapping[Any, Any], prefix: str, warn: Warn, wanted: Wanted | None, depth: int, above: list[int]
) -> Iterator[tuple[str, float | Spread]]:
    above = [*above, id(metrics)]
    for key, value in metrics.items():
        own = key if type(key) is str else str(key)
        name = prefix + own
        if type(value) is float and own:
            yield name, value
            continue
        if value is None:
            continue
        if not own:
            warn(name, f"metric '{name}': its name is empty: skipped")
            continue
        try:
            converter = converter_of(type(value))
            if converter is not None:
                value = _by(converter, value)
                if value is None:
                    continue
            if isinstance(value, Mapping):
                if id(value) in above:
                    warn(name, f"metric '{name}': a {_kind(value)} that contains itself: skipped")
                elif depth <= 0:
                    limit = "rl_logging.max_depth says how far nested mappings are followed"
                    warn(name, f"metric '{name}': a {_kind(value)} nested too deeply ({limit}): skipped")
                else:
                    yield from _leaves(value, f"{name}/", warn, wanted, depth - 1, above)
                continue
            if wanted is not None and not wanted(name):
                continue
            converted = convert(value)
        except ValueConversionError as error:
            warn(error.key or name, f"metric '{name}': a {_kind(value)} is not a metric ({error}): skipped")
            continue
        if converted is None:
            warn(name, f"metric '{name}': a {_kind(value)} without elements: skipped")
        else:
            yield name, converted


def _by(converter: Converter, value: object) -> object:
    """Returns what the user's converter makes of `value`.

    Raises:
        ValueConversionError: It raises.
    """
    try:
        return converter(value)
    except Exception as error:
        told = ValueConversionError(f"the converter registered for it raised {type(error).__name__}: {error}")
        told.key = f"converter {_kind_of(type(value))}"
        raise told from error


def _kind(value: object) -> str:
    name = _kind_of(type(value))
    shape = getattr(value, "shape", None)
    return f"{name} of shape {tuple(shape)}" if isinstance(shape, tuple) else name


def _kind_of(kind: type) -> str:
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
    with np.errstate(all="ignore"):  # infinities among the elements make a NaN of std, which is meant
        return Spread(float(array.mean()), float(array.std()), float(array.min()), float(array.max()))


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
        element = given if converter is None else _by(converter, given)
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
