"""The settings: from keywords, environment variables and the configuration's sections to typed values.

Precedence, highest first: keywords of `ExperimentLogger`, environment variables ``RL_LOGGING_<KEY>``, the section
``rl_logging`` of the configuration, defaults. Whatever is wrong raises before any training was spent.
"""

from __future__ import annotations

import difflib
import functools
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, cast

import msgspec

from rl_logging.settings import callbacks as callback_settings
from rl_logging.settings.callbacks import CheckpointSettings, EvalSettings, VideoSettings
from rl_logging.settings.sections import SettingsError, plain, section
from rl_logging.settings.sinks import SECTION, SHORTHANDS, SinkSettings, asked_sinks

log = logging.getLogger("rl_logging")

DELIVERIES: Final = ("process", "thread", "offline", "disabled")
ENVIRONMENT_PREFIX: Final = "RL_LOGGING_"
NEAR: Final = 0.75
LONGEST_S: Final = 30 * 24 * 3600
LONGEST_NAME: Final = 250
SYSTEM_METRICS_S: Final = 10.0
SYSTEM_METRICS_LEAST_S: Final = 0.1
DEEPEST: Final = 32


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """All settings but the sinks'.

    Attributes:
        name: Display name; None: generated.
        project: MLflow's experiment and W&B's project, where theirs are not given.
        group: Runs that belong together; None: those of the parent.
        parent: The run that this one is a part of: a run directory or an id; None: it stands alone.
        tags: Tags of the run.
        notes: Free text.
        id: The run's id; None: generated.
        dir: Where run directories go.
        resume: Which run to go on with: false (none), true, auto, a run directory or an id.
        resume_step: Which step a run that is gone on with goes back to: a step or checkpoint (the latest one's);
            None: it does not.
        keep: What stays of the journal: all, or what is undelivered.
        ranks: Which processes of a distributed training log: 0 or all.
        delivery: Who delivers: process, thread, offline or disabled.
        interval: How often adapters emit: framework, step, balanced (10), rollout, or a number of framework steps.
        clock: What adapters stamp as step: env_steps or framework.
        on_step_reset: What a clock that starts again does: continue or restart.
        metric_filter: Names, base names, globs, !globs; None: everything.
        names: Which names adapters log under: canonical, native or both.
        aliases: The user's own names for metrics of adapters, by their native or canonical ones.
        max_depth: How many levels of nested mappings are followed; None: 2 in adapters, all in `log_metrics`.
        system_metrics: Whether figures of the machine are logged; a number: every so many seconds.
        finish_timeout_s: How long `finish` waits.
        grace_s: How long SIGTERM leaves delivery time; 0: SIGTERM is not handled.
        eval: How `get_callbacks` evaluates; None: not at all.
        checkpoint: How it saves checkpoints; None: not at all.
        video: How it records videos; None: not at all.
        quiet: No block at the start and the finish.
    """

    name: str | None = None
    project: str | None = None
    group: str | None = None
    parent: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    id: str | None = None
    dir: str = "rl_runs"
    resume: bool | str = False
    resume_step: int | Literal["checkpoint"] | None = None
    keep: Literal["all", "undelivered"] = "all"
    ranks: Literal["0", "all"] = "0"
    delivery: Literal["process", "thread", "offline", "disabled"] = "process"
    interval: str | int = "framework"
    clock: Literal["env_steps", "framework"] = "env_steps"
    on_step_reset: Literal["continue", "restart"] = "continue"
    metric_filter: tuple[str, ...] | None = None
    names: Literal["canonical", "native", "both"] = "canonical"
    aliases: dict[str, str] | None = None
    max_depth: int | None = None
    system_metrics: bool | float = False
    finish_timeout_s: float = 60.0
    grace_s: float = 8.0
    eval: EvalSettings | None = None
    checkpoint: CheckpointSettings | None = None
    video: VideoSettings | None = None
    quiet: bool = False

    @property
    def system_metrics_s(self) -> float | None:
        """Seconds between two samples of the machine's figures; None: there are none."""
        if isinstance(self.system_metrics, bool):
            return SYSTEM_METRICS_S if self.system_metrics else None
        return self.system_metrics


class Loaded(msgspec.Struct, kw_only=True, frozen=True):
    """Everything a logger starts from; `given` are the settings that are no defaults."""

    settings: Settings
    sinks: tuple[SinkSettings, ...]
    config: dict[str, Any]
    notices: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()


def load(config: object, keywords: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Loaded:
    """Returns the settings.

    Args:
        config: The user's configuration, of any kind `rl_logging.settings.sections` knows.
        keywords: Keywords of `ExperimentLogger`; None values count as not given.
        environ: Environment variables.

    Raises:
        SettingsError: Something is wrong; the message names the key, what it got, and what it may be.
    """
    whole = plain(config)
    notices = [*_misspelt_sections(whole), *_misspelt_variables(environ)]
    own = section(config, SECTION, whole.get(SECTION))
    values: dict[str, Any] = dict(own) if isinstance(own, dict) else {}
    places = {key: f"{SECTION}.{key}" for key in values}
    for key in (*_CHECKS, "sinks"):
        variable = ENVIRONMENT_PREFIX + key.upper()
        if environ.get(variable, "").strip():
            values[key] = _from_variable(key, environ[variable])
            places[key] = variable
    for key, value in keywords.items():
        if value is not None:
            values[key] = value
            places[key] = key
    known = (*_CHECKS, "sinks")
    for key in values:
        if key not in known:
            raise SettingsError(
                f"{SECTION}.{key}: there is no such setting{_near(key, known)}; known are {_list(known)}"
            )
    place = places.get("sinks", f"{SECTION}.sinks")
    asked = asked_sinks(config, whole, values.pop("sinks", None), place, environ, alone=not place.startswith(SECTION))
    checked = {
        key: _CHECKS[key](places[key], value) for key, value in values.items() if value is not None or key in _NULLABLE
    }
    others, misunderstood = callback_settings.of_others(whole)
    for key in others:
        if key not in values:
            checked[key] = others[key]
    notices += misunderstood
    settings = Settings(**checked)
    given = frozenset(checked) | ({"sinks"} if "sinks" in places or any(key in whole for key in SHORTHANDS) else set())
    return Loaded(settings=settings, sinks=tuple(asked), config=whole, notices=tuple(notices), given=given)


def _misspelt_sections(whole: Mapping[str, Any]) -> list[str]:
    known = (SECTION, *SHORTHANDS)
    notices = []
    for key in whole:
        if key in known:
            continue
        word = key.lower().replace("-", "_")
        near = difflib.get_close_matches(word, SHORTHANDS, n=1, cutoff=NEAR)
        # A section called `logging` is many people's own.
        near = near or difflib.get_close_matches(word, (SECTION,), n=1, cutoff=0.85)
        if near and near[0] not in whole:
            notices.append(f"the configuration's section '{key}' is none of ours: did you mean '{near[0]}'?")
    return notices


def _misspelt_variables(environ: Mapping[str, str]) -> list[str]:
    known = {ENVIRONMENT_PREFIX + key.upper() for key in (*_CHECKS, "sinks")}
    notices = []
    for variable in environ:
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in known:
            near = difflib.get_close_matches(variable, known, n=1, cutoff=0.85)
            if near:
                notices.append(f"the environment variable {variable} is not read: did you mean {near[0]}?")
    return notices


def _from_variable(key: str, text: str) -> object:
    if key in ("name", "project", "group", "parent", "notes", "id", "dir"):
        return text
    if key in ("metric_filter", "tags") and not text.lstrip().startswith("["):
        return [entry for entry in (part.strip() for part in text.split(",")) if entry]
    import yaml  # a tenth of what `import rl_logging` would cost

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{ENVIRONMENT_PREFIX}{key.upper()}: {text!r} is not YAML: {error}") from error


def _near(value: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(value.lower(), list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _list(known: Iterable[str]) -> str:
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
        near = _near(value, known) if isinstance(value, str) else ""
        raise SettingsError(f"{key}: {value!r} is not one of {_list(known)}{near}")

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
    near = _near(value, words) if isinstance(value, str) else ""
    raise SettingsError(f"{key}: {value!r} is not one of {_list(words)}, or a number of steps of 1 or more{near}")


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


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
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
_NULLABLE: Final = frozenset(
    {"name", "project", "group", "parent", "notes", "id", "metric_filter", "aliases", "max_depth", "resume_step"}
)


def as_dict(settings: Settings) -> dict[str, Any]:
    """Returns settings as JSON values."""
    return cast("dict[str, Any]", msgspec.to_builtins(settings))
