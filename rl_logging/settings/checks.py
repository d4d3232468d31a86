"""What each setting may be: a check returns the value as it is meant, or says what was wrong with it."""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from rl_logging.settings import callbacks as callback_settings
from rl_logging.settings.callbacks import CheckpointSettings, EvalSettings, VideoSettings
from rl_logging.settings.sections import SettingsError

DELIVERIES: Final = ("process", "thread", "offline", "disabled")
LONGEST_S: Final = 30 * 24 * 3600
LONGEST_NAME: Final = 250
SYSTEM_METRICS_LEAST_S: Final = 0.1
DEEPEST: Final = 32


def near_to(value: str, known: Iterable[str]) -> str:
    """Returns a question for what was meant, or nothing where no known word is like it."""
    near = difflib.get_close_matches(value.lower(), list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def listed(known: Iterable[str]) -> str:
    """Returns the words with commas between."""
    return ", ".join(known)


def _text(key: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
        return str(value)
    raise SettingsError(f"{key}: got {value!r}, may be a text")


def _id(key: str, value: object) -> str | None:
    text = _text(key, value)
    if text is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_\-]{0,63}", text):
        raise SettingsError(f"{key}: got {value!r}, may be up to 64 letters, digits, '-' and '_'")
    return text


def _parent(key: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, (str, os.PathLike)) and (text := os.fspath(value)).strip():
        return text
    raise SettingsError(f"{key}: got {value!r}, may be a run directory or a run's id")


def _folder(key: str, value: object) -> str:
    if isinstance(value, (str, os.PathLike)) and os.fspath(value):
        return os.fspath(value) if isinstance(value, os.PathLike) else value
    raise SettingsError(f"{key}: got {value!r}, may be the path of a folder")


def _resume(key: str, value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, (str, os.PathLike)) and str(value).strip():
        return "auto" if str(value).strip().lower() == "auto" else str(value)
    raise SettingsError(f"{key}: got {value!r}, may be true, false, auto, a run directory or a run's id")


def _resume_step(key: str, value: object) -> int | str | None:
    word = value.strip().lower() if isinstance(value, str) else value
    if word in (None, "checkpoint"):
        return word
    if isinstance(word, str) and word.isdigit():
        word = int(word)
    if isinstance(word, int) and not isinstance(word, bool) and 0 <= word < 2**63:
        return word
    raise SettingsError(f"{key}: got {value!r}, may be a step from 0, checkpoint (the latest one's), or null")


def _ranks(key: str, value: object) -> str:
    if value == 0 and not isinstance(value, bool):
        return "0"
    return _one_of(("0", "all"))(key, value)


def _texts(key: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping):
        return tuple(f"{name}:{entry}" for name, entry in value.items())
    if isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(entry, (str, int)) for entry in value):
        entries = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return tuple(str(entry) for entry in entries)
    raise SettingsError(f"{key}: got {value!r}, may be a list of texts")


def _filter(key: str, value: object) -> tuple[str, ...] | None:
    entries = None if value is None else () if isinstance(value, Mapping) else _texts(key, value)
    if isinstance(value, Mapping) or not all(entry.lstrip("!").strip() for entry in entries or ()):
        raise SettingsError(f"{key}: got {value!r}, may be a list of names, globs, and either behind '!'")
    return entries


def _one_of(known: tuple[str, ...]) -> Callable[[str, object], str]:
    def check(key: str, value: object) -> str:
        if isinstance(value, str) and value.strip().lower() in known:
            return value.strip().lower()
        near = near_to(value, known) if isinstance(value, str) else ""
        raise SettingsError(f"{key}: {value!r} is not one of {listed(known)}{near}")

    return check


def _interval(key: str, value: object) -> str | int:
    words = ("framework", "step", "balanced", "rollout")
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in words:
            return word
        if word.isdigit() and int(word) >= 1:
            return int(word)
    near = near_to(value, words) if isinstance(value, str) else ""
    raise SettingsError(f"{key}: {value!r} is not one of {listed(words)}, or a number of steps of 1 or more{near}")


def _seconds(key: str, value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LONGEST_S:
        return float(value)
    raise SettingsError(f"{key}: got {value!r}, may be a number of seconds up to {LONGEST_S:,}")


def _aliases(key: str, value: object) -> dict[str, str] | None:
    if value is None:
        return None
    words = "may be a mapping of a metric's native or canonical name to the name it shall have"
    if not isinstance(value, Mapping):
        raise SettingsError(f"{key}: got {value!r}, {words}")
    for native, alias in value.items():
        if not isinstance(native, str) or not isinstance(alias, str) or not native.strip() or not alias.strip():
            raise SettingsError(f"{key}: got {native!r}: {alias!r}, {words}")
        if len(alias.strip()) > LONGEST_NAME or not alias.strip().isprintable():
            raise SettingsError(
                f"{key}.{native}: got {alias!r}, may be a name of at most {LONGEST_NAME} characters, none of which is "
                "a control character"
            )
    return {native: alias.strip() for native, alias in value.items()}


def _depth(key: str, value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= DEEPEST):
        return value
    raise SettingsError(f"{key}: got {value!r}, may be a number of levels from 0 to {DEEPEST}")


def _system_metrics(key: str, value: object) -> bool | float:
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and SYSTEM_METRICS_LEAST_S <= value <= LONGEST_S:
        return float(value)
    raise SettingsError(
        f"{key}: got {value!r}, may be true, false, or a number of seconds from {SYSTEM_METRICS_LEAST_S:g} to "
        f"{LONGEST_S:,} between two samples"
    )


def _flag(key: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in (0, 1):
        return bool(value)
    raise SettingsError(f"{key}: got {value!r}, may be true or false")


def _callback(
    kind: type[callback_settings.AnySettings],
) -> Callable[[str, object], callback_settings.AnySettings | None]:
    return functools.partial(callback_settings.parse, kind)


CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "name": _text,
    "project": _text,
    "group": _text,
    "parent": _parent,
    "tags": _texts,
    "notes": _text,
    "id": _id,
    "dir": _folder,
    "resume": _resume,
    "resume_step": _resume_step,
    "keep": _one_of(("all", "undelivered")),
    "ranks": _ranks,
    "delivery": _one_of(DELIVERIES),
    "interval": _interval,
    "clock": _one_of(("env_steps", "framework")),
    "on_step_reset": _one_of(("continue", "restart")),
    "metric_filter": _filter,
    "names": _one_of(("canonical", "native", "both")),
    "aliases": _aliases,
    "max_depth": _depth,
    "system_metrics": _system_metrics,
    "finish_timeout_s": _seconds,
    "grace_s": _seconds,
    "eval": _callback(EvalSettings),
    "checkpoint": _callback(CheckpointSettings),
    "video": _callback(VideoSettings),
    "quiet": _flag,
}
"""How each setting is checked, given the place where it stands, for errors, and its value."""

NULLABLE: Final = frozenset(
    {"name", "project", "group", "parent", "notes", "id", "metric_filter", "aliases", "max_depth", "resume_step"}
)
"""Those to which null is said on purpose; of all others it counts as not given."""
