"""The settings: from keywords, environment variables and the configuration's sections to typed values.

Precedence, highest first: keywords of `ExperimentLogger`, environment variables ``RL_LOGGING_<KEY>``, the section
``rl_logging`` of the configuration, defaults. Whatever is wrong raises before any training was spent.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any, Final

from rl_logging.settings import callbacks as callback_settings
from rl_logging.settings.checks import CHECKS, NULLABLE, listed, near_to
from rl_logging.settings.sections import SettingsError, plain, section
from rl_logging.settings.sinks import SECTION, SHORTHANDS, asked_sinks
from rl_logging.settings.typed import Loaded, Settings

ENVIRONMENT_PREFIX: Final = "RL_LOGGING_"
NEAR: Final = 0.75


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
    for key in (*CHECKS, "sinks"):
        variable = ENVIRONMENT_PREFIX + key.upper()
        if environ.get(variable, "").strip():
            values[key] = _from_variable(key, environ[variable])
            places[key] = variable
    known = (*CHECKS, "sinks")
    for key in (*values, *keywords):
        if key not in known:
            place = key if key in keywords else f"{SECTION}.{key}"
            raise SettingsError(f"{place}: there is no such setting{near_to(key, known)}; known are {listed(known)}")
    for key, value in keywords.items():
        if value is not None:
            values[key] = value
            places[key] = key
    place = places.get("sinks", f"{SECTION}.sinks")
    asked = asked_sinks(config, whole, values.pop("sinks", None), place, environ, alone=not place.startswith(SECTION))
    checked = {
        key: CHECKS[key](places[key], value) for key, value in values.items() if value is not None or key in NULLABLE
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
    known = {ENVIRONMENT_PREFIX + key.upper() for key in (*CHECKS, "sinks")}
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
