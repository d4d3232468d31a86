"""Figures of a record that are not known yet when it is logged: they are still on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Late(NamedTuple):
    """A figure that is known once everything has arrived that was asked of a device before.

    Attributes:
        read: Returns it then; None for none, and then the record has none of its name.
    """

    read: Callable[[], float | None]


def is_late(value: Any) -> bool:
    """Whether a figure of an adapter's is a `Late`, or a CUDA tensor of one element."""
    return type(value) is Late or getattr(value, "is_cuda", False) is True
