"""Metrics of which some figures are still on a device: accepted, as one record, when these are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rl_logging.extraction.late import Late
from rl_logging.run.interface import Run


def hold_record(
    run: Run, values: dict[str, float], later: Mapping[str, Any], keep: Callable[[dict[str, float], float], None]
) -> None:
    """Has the values kept, once those that are not there yet are.

    Args:
        run: The run.
        values: Names to figures; anything for those that are not there yet.
        later: These, by name: one-element CUDA tensors, which are not waited for, and `Late` ones.
        keep: Called with the values and the time of this call; not where there are none.
    """
    tensors = {name: value for name, value in later.items() if type(value) is not Late}

    def accept(figures: list[float], time_s: float) -> None:
        values.update(zip(tensors, figures, strict=True))
        _read(values, later)
        if values:
            keep(values, time_s)

    run.hold(list(tensors.values()), accept)


def waited_for(values: dict[str, float], later: Mapping[str, Any]) -> dict[str, float]:
    """Returns the values with those that are still on a device, for which it waits; arguments as in `hold_record`."""
    values.update({name: float(value) for name, value in later.items() if type(value) is not Late})
    _read(values, later)
    return values


def _read(values: dict[str, float], later: Mapping[str, Any]) -> None:
    for name, late in later.items():
        if type(late) is Late:
            figure = late.read()
            if figure is None:
                del values[name]
            else:
                values[name] = figure
