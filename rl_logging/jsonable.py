"""Turning whatever people keep in configurations and metadata into JSON values.

Nothing is refused and nothing is executed beyond the object's own `repr`: what has no JSON form becomes a short text
that is the same in every process, without memory addresses, so that two runs' configurations can be compared.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import os
import re
import types
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Final, TypeAlias

DEPTH_MOST: Final = 32
VALUES_MOST: Final = 100_000
ELEMENTS_MOST: Final = 1_000
TEXT_MOST: Final = 1_000
CUT: Final = "…"

# What msgpack and most stores hold as an integer; a larger one is kept digit by digit, as text.
_INT_LEAST: Final = -(2**63)
_INT_MOST: Final = 2**64 - 1
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+|(?<=\b0x)[0-9a-fA-F]{8,}")

JsonValue: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None


def json_safe(value: object) -> JsonValue:
    """Returns `value` as JSON values; never raises.

    Mappings, dataclasses, named tuples, namespaces, attrs, pydantic and msgspec objects become dictionaries with text
    keys; sequences and sets lists (sets in a stable order); NumPy and torch scalars and arrays of up to 1,000
    elements numbers and lists; enumerations their values; paths text. NaN and the infinities stay floats. Classes
    become ``module.Name``; functions, spaces and everything else a short text. What contains itself, is nested more
    than 32 deep, or comes after the first 100,000 values is cut to ``…``.
    """
    return _Converter().convert(value, 0)


def describe(value: object) -> str:
    """Returns a short text for `value`, without memory addresses; never raises."""
    if isinstance(value, type):
        return value.__qualname__ if value.__module__ == "builtins" else f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        return f"<function {getattr(value, '__qualname__', type(value).__name__)}>"
    if isinstance(value, types.ModuleType):
        return f"<module {value.__name__}>"
    try:
        text = repr(value)
        text = _ADDRESS.sub("", text) if "0x" in text else text
    except Exception:  # a user's __repr__ may do anything; its type is still worth a word
        return f"<{type(value).__qualname__}>"
    return _encodable(text if len(text) <= TEXT_MOST else text[:TEXT_MOST] + CUT)


class _Converter:
    """One conversion: what is open around the current value, and how many values were made."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._made = 0

    def convert(self, value: Any, depth: int) -> JsonValue:
        self._made += 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            return self.convert(value.value, depth) if isinstance(value.value, (str, int, float)) else value.name
        if isinstance(value, str):
            return _encodable(str(value))
        if isinstance(value, int):
            return _integer(value)
        if isinstance(value, float):
            return float(value)
        if depth > DEPTH_MOST or self._made > VALUES_MOST or id(value) in self._open:
            return CUT
        self._open.add(id(value))
        try:
            return self._container(value, depth)
        except Exception:  # any attribute of a stranger's object may raise: text is what is left
            return describe(value)
        finally:
            self._open.discard(id(value))

    def _container(self, value: Any, depth: int) -> JsonValue:
        simple = _simple_text(value)
        if simple is not None:
            return simple
        if _is_space(value) or isinstance(value, type):
            return describe(value)
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            return self._array(value, depth)
        fields = _fields(value)
        if fields is not None:
            return self._mapping(fields, depth)
        if isinstance(value, Set):
            entries = [self.convert(entry, depth + 1) for entry in self._bounded(value)]
            return sorted(entries, key=lambda entry: (type(entry).__name__, _sortable(entry)))
        if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview, range)):
            return [self.convert(entry, depth + 1) for entry in self._bounded(value)]
        return describe(value)

    def _bounded(self, values: Iterable[Any]) -> Iterable[Any]:
        for value in values:
            if self._made > VALUES_MOST:
                yield CUT
                return
            yield value

    def _mapping(self, fields: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        converted: dict[str, Any] = {}
        for key in self._bounded(fields):
            text = _key(key)
            if text in converted:  # 1 and "1" are two keys
                text = f"{text} ({type(key).__name__})"
            try:
                entry = fields[key]
            except Exception as error:  # such as an interpolation that does not resolve
                entry = f"<{type(error).__name__}>"
            converted[text] = self.convert(entry, depth + 1)
        return converted

    def _array(self, value: Any, depth: int) -> JsonValue:
        size = 1
        for length in value.shape:
            size *= int(length)
        if size > ELEMENTS_MOST or not hasattr(value, "tolist"):
            return f"<{type(value).__name__} of shape {tuple(value.shape)}, {value.dtype}>"
        plain = value.tolist()
        if hasattr(plain, "shape"):  # a NumPy longdouble is its own list
            plain = float(plain)
        return self.convert(plain, depth + 1)


def _simple_text(value: object) -> str | None:
    if isinstance(value, os.PathLike):
        path = value.__fspath__()
        return _encodable(path if isinstance(path, str) else os.fsdecode(path))
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return None


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """Returns what `value` holds by name; None where it is no such object."""
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=True))
    if isinstance(value, types.SimpleNamespace) or type(value).__name__ == "Namespace":
        return dict(vars(value))
    for names_of in ("__attrs_attrs__", "__struct_fields__", "__pydantic_fields__", "model_fields"):
        names = getattr(type(value), names_of, None)
        if names is not None:
            return {name: getattr(value, name) for name in (getattr(entry, "name", entry) for entry in names)}
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):
        return {key: value[key] for key in value.keys()}  # noqa: SIM118 - it need not be iterable
    return None


def _is_space(value: object) -> bool:
    """Whether it is a Gym or Gymnasium space; two of those are also mappings or sequences, of spaces."""
    return any(cls.__name__ == "Space" and cls.__module__.startswith("gym") for cls in type(value).__mro__)


def _integer(value: int) -> int | str:
    if _INT_LEAST <= value <= _INT_MOST:
        return int(value)
    return hex(value)  # in linear time, and beyond the digits that str() refuses


def _key(key: object) -> str:
    if isinstance(key, str):
        return _encodable(str(key))
    if isinstance(key, enum.Enum):
        return key.name
    if key is None or isinstance(key, (bool, int, float)):
        return str(_integer(key)) if isinstance(key, int) and not isinstance(key, bool) else str(key)
    return describe(key)


def _encodable(text: str) -> str:
    """Returns `text` with lone surrogates (undecodable file names) escaped: they have no UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _sortable(entry: JsonValue) -> tuple[float, str]:
    number = float(entry) if isinstance(entry, (int, float)) else 0.0
    return (number, repr(entry))
