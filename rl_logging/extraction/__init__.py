"""From what frameworks and people hand over to flat names and floats: pure functions and small classes, no I/O."""

from __future__ import annotations

from rl_logging.extraction.clock import Clock
from rl_logging.extraction.converters import register_converter
from rl_logging.extraction.figures import Spread, ValueConversionError, convert
from rl_logging.extraction.filters import MetricFilter
from rl_logging.extraction.intervals import Interval
from rl_logging.extraction.names import NameTable, Rename
from rl_logging.extraction.naming import Origin
from rl_logging.extraction.pipeline import Pipeline
from rl_logging.extraction.values import aggregate, flatten, leaves
from rl_logging.extraction.window import Window

__all__ = [
    "Clock",
    "Interval",
    "MetricFilter",
    "NameTable",
    "Origin",
    "Pipeline",
    "Rename",
    "Spread",
    "ValueConversionError",
    "Window",
    "aggregate",
    "convert",
    "flatten",
    "leaves",
    "register_converter",
]
