"""What environments hand out beside their observations: their own figures, as far as skrl drops them, and successes."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from rl_logging.extraction.on_device import is_on_cuda

_GROUPS: Final = ("log", "episode")
_ANY_GROUP: Final = frozenset(_GROUPS)
_RECORDED_STATISTICS: Final = frozenset({"r", "l", "t"})
_SUCCESS: Final = ("is_success", "success")


class EnvironmentFigures:
    """Finds numbers in ``infos["log"]`` (Isaac Lab) and ``infos["episode"]`` that skrl does not track.

    skrl's trainers track the one-element tensors of one of these groups, and drop what is a plain number, a larger
    tensor, or in the other group. Isaac Lab hands the same mapping out until an environment was reset, so figures
    count when something in them is new. Of a vector environment's figures only those of the environments that have
    them count. Gymnasium's own episode statistics are left out: they are counted here anyway.

    Args:
        tracked: The group whose one-element tensors the trainer hands to the agent; None for none.
    """

    def __init__(self, tracked: str | None) -> None:
        self._tracked = tracked
        self._last: dict[str, tuple[object, tuple[Any, ...]]] = {}

    def new(self, infos: Any) -> Iterable[tuple[str, Any]]:
        """Returns (tag, value) of each figure that was not returned before, under the tag skrl would give it.

        A value is a number, or an array of them.
        """
        if (type(infos) is not dict and not isinstance(infos, Mapping)) or _ANY_GROUP.isdisjoint(infos):
            return ()
        return self._look(infos)

    def are_tracked_after(self, infos: Any) -> bool:
        """Returns whether the trainer still tracks some of these, once it has recorded the transition."""
        return isinstance(infos, Mapping) and self._tracked in infos

    def _look(self, infos: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for group in _GROUPS:
            figures = infos.get(group)
            if not isinstance(figures, Mapping) or self._is_old(group, figures):
                continue
            of_all = _mask(infos, group)
            for key, value in figures.items():
                if key in _RECORDED_STATISTICS or (str(key).startswith("_") and str(key)[1:] in figures):
                    continue
                if group == self._tracked and _is_tracked(value):
                    continue
                figure = _figure(value, _mask(figures, key) if _mask(figures, key) is not None else of_all)
                if figure is not None:
                    yield (key if "/" in key else f"Info / {key}"), figure

    def _is_old(self, group: str, figures: Mapping[str, Any]) -> bool:
        values = tuple(figures.values())
        before = self._last.get(group)
        self._last[group] = (figures, values)
        if before is None or before[0] is not figures or len(before[1]) != len(values):
            return False
        return all(
            old is new or (type(old) is type(new) and isinstance(new, numbers.Real) and old == new)
            for old, new in zip(before[1], values, strict=True)
        )


def success(infos: object, index: int) -> float | None:
    """Returns whether the environment calls the episode that just ended a success, or None where it does not say.

    Args:
        infos: What the environment handed out with the step: Gymnasium's, of one environment or several, in any of
            its forms; the word is ``is_success`` or ``success``.
        index: Which environment.
    """
    return _entry(_of_episodes(infos), index)


def successes(infos: object) -> tuple[list[Any], Callable[[list[Any]], object]] | None:
    """Returns what `success` needs of `infos`, as it is now, where environments write into theirs; None for nothing.

    Returns:
        CUDA tensors, and what makes infos for `success` of what has arrived of them in the host's memory.
    """
    entry = _of_episodes(infos)
    if isinstance(entry, (Sequence, np.ndarray)):
        return [], lambda _: {"final_info": entry}
    if not isinstance(entry, Mapping):
        return None
    key = next((key for key in _SUCCESS if entry.get(key) is not None), None)
    if key is None:
        return None
    values, mask = entry[key], _mask(entry, key)
    masked = {} if mask is None else {f"_{key}": mask.copy()}
    if is_on_cuda(values):
        return [values], lambda arrived: {**masked, key: arrived[0].numpy()}
    kept = np.array(values)
    return [], lambda _: {**masked, key: kept}


def _of_episodes(infos: object) -> Any:
    """Returns the infos of the episodes that ended, which are kept apart where an environment resets in that step."""
    if not isinstance(infos, Mapping):
        return None
    final = infos.get("final_info")
    return infos if final is None else final


def _entry(infos: Any, index: int) -> float | None:
    if type(infos) is not dict and isinstance(infos, (Sequence, np.ndarray)):
        infos = infos[index]
    if not isinstance(infos, Mapping):
        return None
    for key in _SUCCESS:
        values = infos.get(key)
        if values is None:
            continue
        mask = _mask(infos, key)
        if mask is not None and not mask[index]:
            return None
        value = values[index] if np.ndim(values) else values
        return float(value)
    return None


def _mask(infos: Mapping[Any, Any], key: object) -> Any:
    """Returns for which environments a vector environment has a key; None where it does not say."""
    mask = infos.get(f"_{key}")
    return mask if isinstance(mask, np.ndarray) and mask.dtype == bool else None


def _figure(value: Any, mask: Any) -> Any:
    """Returns what is a number or several; None for anything else."""
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, np.ndarray):
        if mask is not None and value.shape[:1] == mask.shape:
            value = value[mask]
        if value.dtype.kind not in "bifu" or not value.size:
            return None
        return float(value.item()) if value.size == 1 else value
    if hasattr(value, "detach"):  # a copy: environments write into theirs
        return value.detach().clone() if value.numel() else None
    return value if hasattr(value, "__array__") else None


def _is_tracked(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor) and value.numel() == 1
