"""From what people log to floats: `flatten` and what it is made of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from rl_logging.extraction.converters import converter_of, scalars, tensors
from rl_logging.extraction.figures import MAX_DEPTH, Spread, ValueConversionError, convert, converted_by, kind_of
from rl_logging.extraction.on_device import OnDevice, on_device

Warn = Callable[[str, str], None]
"""Called with a key, once per key of which the caller shows it, and a message."""

Wanted = Callable[[str], bool]
"""Says of a name whether anything of it may be logged, so that its value is worth converting."""

AGGREGATES: Final = ("mean", "std", "min", "max")
"""What a value of several elements becomes, as the last part of its name."""

NAN: Final = float("nan")
_SHALLOW: Final = 4


def flatten(
    metrics: Mapping[str, object],
    warn: Warn,
    *,
    max_depth: int | None = None,
    wanted: Wanted | None = None,
    later: dict[str, Any] | None = None,
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
        later: Gets, by name, the one-element tensor of each figure that is still on a CUDA device; what is returned
            holds NaN in its place. None: the device is waited for.

    Raises:
        TypeError: `metrics` is no mapping.
    """
    quick = _flatten_quickly(metrics, max_depth) if type(metrics) is dict else None
    if quick is not None:
        return quick
    if not hasattr(metrics, "items"):
        raise TypeError(f"got a {type(metrics).__name__}, may be a mapping of names to values")
    flat: dict[str, float] = {}
    depth = MAX_DEPTH if max_depth is None else max_depth
    for name, value in _leaves(metrics, "", warn, wanted, depth, [], defer=later is not None):
        if type(value) is float:
            if name in flat:
                _tell_twice(name, warn, later)
            flat[name] = value
            continue
        for key, figure in _named(name, value).items():
            if key in flat:
                _tell_twice(key, warn, later)
            if later is not None and type(figure) is not float:
                later[key], figure = figure, NAN
            flat[key] = figure
    return flat


def _flatten_quickly(metrics: dict[Any, Any], max_depth: int | None) -> dict[str, float] | None:
    """Returns what nearly every call is, a dict of scalars, as floats; None for what takes a closer look."""
    # The tests run in C: they cost less than a loop.
    kinds = [*map(type, metrics.values())]
    try:
        "".join(metrics)  # whether all names are strings
        if "" in metrics:
            return None
        if kinds.count(float) == len(kinds):
            return metrics.copy()
        different = {*kinds}
        if different <= scalars or (not different <= tensors and _learn(different)):
            return dict(zip(metrics, map(float, metrics.values()), strict=True))
        if different <= tensors:
            # One of several elements is not tried: what torch raises then costs as much as to log it.
            found = [tensor.item() for tensor in metrics.values() if tensor.is_cpu and tensor.numel() == 1]
            return dict(zip(metrics, map(float, found), strict=True)) if len(found) == len(kinds) else None
        if dict in different:
            flat: dict[str, float] = {}
            count = _flatten_shallow(metrics, "", flat, _SHALLOW if max_depth is None else min(max_depth, _SHALLOW))
            return flat if count == len(flat) else None
    except (TypeError, ValueError, OverflowError):
        pass  # an integer too large, a complex tensor: what is wrong with it, the closer look tells
    return None


def _flatten_shallow(metrics: dict[Any, Any], prefix: str, flat: dict[str, float], depth: int) -> int:
    """Adds the scalars of a dict, and of dicts in it, to `flat`, and returns their number.

    Raises:
        ValueError: There is something else in it.
    """
    count = 0
    for name, value in metrics.items():
        kind = type(value)
        if kind in scalars and name:
            flat[prefix + name] = float(value)
            count += 1
        elif kind is dict and name and depth > 0:
            count += _flatten_shallow(value, f"{prefix}{name}/", flat, depth - 1)
        else:
            raise ValueError(name)
    return count


def _tell_twice(name: str, warn: Warn, later: dict[str, Any] | None) -> None:
    warn(name, f"metric '{name}': given twice in one call, in different spellings: the later one was kept")
    if later is not None:
        later.pop(name, None)


def _learn(kinds: set[type]) -> bool:
    """Whether all of `kinds` are scalars that `float` converts; NumPy's are remembered from then on, as torch's types.

    A type that has a converter is none of them.
    """
    torch = sys.modules.get("torch")
    if torch is not None and not tensors:
        # A torch that is being imported by another thread may not have them yet.
        found = (getattr(torch, "Tensor", None), getattr(getattr(torch, "nn", None), "Parameter", None))
        tensors.update(kind for kind in found if kind is not None and converter_of(kind) is None)
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
) -> Iterator[tuple[str, float | Spread | OnDevice]]:
    """Yields each name with its float, or with the aggregates of its elements; arguments as in `flatten`.

    CUDA tensors are not waited for: theirs are still there.
    """
    depth = MAX_DEPTH if max_depth is None else max_depth
    return _leaves(metrics, "", warn, wanted, depth, [], defer=True)


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
    return _named(name, value)


def _named(name: str, value: float | Spread | OnDevice) -> dict[str, Any]:
    """Returns names to figures, which are tensors where they are still on a device."""
    if isinstance(value, float):
        return {name: value}
    figures = value.figures if isinstance(value, OnDevice) else value
    if len(figures) == 1:
        return {name: figures[0]}
    return {f"{name}/{part}": figure for part, figure in zip(AGGREGATES, figures, strict=True)}


def _leaves(
    metrics: Mapping[Any, Any],
    prefix: str,
    warn: Warn,
    wanted: Wanted | None,
    depth: int,
    above: list[int],
    *,
    defer: bool,
) -> Iterator[tuple[str, float | Spread | OnDevice]]:
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
                value = converted_by(converter, value)
                if value is None:
                    continue
            if isinstance(value, Mapping):
                if id(value) in above:
                    warn(name, f"metric '{name}': a {_kind(value)} that contains itself: skipped")
                elif depth <= 0:
                    limit = "rl_logging.max_depth says how far nested mappings are followed"
                    warn(name, f"metric '{name}': a {_kind(value)} nested too deeply ({limit}): skipped")
                else:
                    yield from _leaves(value, f"{name}/", warn, wanted, depth - 1, above, defer=defer)
                continue
            if wanted is not None and not wanted(name):
                continue
            placed = on_device(value) if defer else None
            converted = convert(value) if placed is None else placed
        except ValueConversionError as error:
            warn(error.key or name, f"metric '{name}': a {_kind(value)} is not a metric ({error}): skipped")
            continue
        if converted is None:
            warn(name, f"metric '{name}': a {_kind(value)} without elements: skipped")
        else:
            yield name, converted


def _kind(value: object) -> str:
    name = kind_of(type(value))
    shape = getattr(value, "shape", None)
    return f"{name} of shape {tuple(shape)}" if isinstance(shape, tuple) else name
