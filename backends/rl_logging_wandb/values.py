"""Fitting names and values to what W&B stores; every change is told to the ledger."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rl_logging.sinks import Ledger

STEP_METRIC: Final = "global_step"
"""The key under which each row has the record's step; the x-axis of every chart."""

MAX_TAG_CHARACTERS: Final = 64
MOST_ORDINARY: Final = 10_000

_ordinary: set[str] = set()
"""Names that were met and need no change: most rows have the names of the one before."""


def row(values: Mapping[str, Any], step: int | None, ledger: Ledger) -> dict[str, Any]:
    """Returns one history row's keys and values.

    W&B drops an empty key and its own ``_step`` without a word, overwrites other names of its own, and hides what
    begins with an underscore; such names are changed here.

    Args:
        values: As they were logged.
        step: The record's step, which becomes `STEP_METRIC`.
        ledger: Told of each name changed.
    """
    kept = dict(values) if values.keys() <= _ordinary else _renamed(values, step, ledger)
    if step is not None:
        kept[STEP_METRIC] = step
    elif STEP_METRIC in values:
        kept[STEP_METRIC] = values[STEP_METRIC]
    return kept


def _renamed(values: Mapping[str, Any], step: int | None, ledger: Ledger) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    renamed: dict[str, Any] = {}
    for name, value in values.items():
        if name == STEP_METRIC and (step is None or value == step):
            continue
        (renamed if _reserved(name) else kept)[name] = value
    if len(_ordinary) < MOST_ORDINARY:
        _ordinary.update(kept)
    for name, value in renamed.items():
        stored_as = _free_name(name, kept)
        kept[stored_as] = value
        ledger.renamed(name, stored_as)
    return kept


def _reserved(name: str) -> bool:
    return not name.strip() or name.startswith("_") or name == STEP_METRIC


def _free_name(name: str, taken: Mapping[str, Any]) -> str:
    base = "unnamed" if not name.strip() else f"user_{name.lstrip('_')}"
    candidate, number = base, 2
    while candidate in taken:
        candidate, number = f"{base}_{number}", number + 1
    return candidate


def config(values: Mapping[str, Any], ledger: Ledger) -> dict[str, Any]:
    """Returns `values` as W&B's config takes them: JSON, with its own key ``_wandb`` left alone."""
    fitted = {str(key): json_safe(value) for key, value in values.items()}
    if "_wandb" in fitted:
        ledger.renamed("_wandb", "user_wandb")
        fitted["user_wandb"] = fitted.pop("_wandb")
    return fitted


def json_safe(value: Any) -> Any:
    """Returns `value` as strict JSON has it: NaN and the infinities become text, which W&B would make null."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def merged(old: Any, new: Any) -> Any:
    """Returns `new` laid over `old`, key by key in mappings, at every depth."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}


def tags(given: Iterable[str], ledger: Ledger) -> tuple[str, ...]:
    """Returns the tags W&B takes: 1 to 64 characters, each once, in order."""
    fitted: dict[str, None] = {}
    for tag in given:
        if len(tag) > MAX_TAG_CHARACTERS:
            ledger.truncated(f"tag {tag}", f"W&B takes {MAX_TAG_CHARACTERS} characters of a tag")
        if tag.strip():
            fitted[tag[:MAX_TAG_CHARACTERS]] = None
    return tuple(fitted)


def file_name(name: str, max_characters: int = 128) -> str:
    """Returns `name` with what W&B forbids in the names of artifacts replaced by a dash."""
    return re.sub(r"[^A-Za-z0-9_.\-]+", "-", name)[:max_characters] or "unnamed"
