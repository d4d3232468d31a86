"""Numbers of the kinds that algorithms record most, as floats."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from rl_logging.extraction.converters import converter_of

_EXACT: Final = 2**53
_NUMPY: Final = (np.floating, np.integer, np.bool_)


def plain(value: Any) -> Any:
    """Returns a number as float where that is all that its conversion comes to; else the value, to be converted."""
    kind = type(value)
    if kind is int:
        return float(value) if -_EXACT < value < _EXACT else value
    return float(value) if isinstance(value, _NUMPY) and converter_of(kind) is None else value
