"""Metrics of which some figures are still on a device: accepted, as one record, when these are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

    def accept(figures: list[float], time_s: float) -> None:
        fill(values, later, figures)
        if values:
            keep(values, time_s)

    run.hold(awaited(later), accept)


def awaited(later: Mapping[str, Any]) -> list[Any]:
    """Returns the tensors among what is not there yet."""
    return [value for value in later.values() if type(value) is not Late]


def fill(values: dict[str, float], later: Mapping[str, Any], figures: Sequence[float]) -> None:
    """Puts the figures that were not there yet among the values; the arguments are those of `hold_record`.

    Args:
        values: Changed in place; a `Late` figure that there is not is taken out.
        later: What was not there yet.
        figures: What has arrived of `awaited`.
    """
    arrived = iter(figures)
    for name, value in later.items():
        figure = value.read() if type(value) is Late else float(next(arrived))
        if figure is None:
            del values[name]
        else:
            values[name] = figure
