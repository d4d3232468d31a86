"""Which settings the sink takes, which it refuses and what to use instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Final

from rl_logging_wandb.version import installed, settings_fields

MIN_SDK: Final = (0, 31)
"""The first version that can be told to flush an offline run's file in time; before, a row could be confirmed minutes
later or at the end."""

MODES: Final = ("online", "offline", "disabled")

TEXTS: Final = ("project", "entity", "group", "job_type", "name", "notes", "id", "dir", "base_url")
LISTS: Final = ("tags", "config_include_keys", "config_exclude_keys")
KNOWN: Final = (*TEXTS, *LISTS, "mode", "settings")

REFUSED: Final[Mapping[str, str]] = {
    "config": "use ExperimentLogger(config) or log_config",
    "allow_val_change": "log_config may always change a value; leave it out",
    "force": "say 'mode: online', which never falls back to offline",
    "reinit": "every ExperimentLogger is a run of its own; leave it out",
    "resume": "give the run's 'id': a run of that id is always continued",
    "resume_from": "rewind the run by wandb.init once, finish it, and give its 'id' here",
    "fork_from": "fork the run by wandb.init once, finish it, and give the new run's 'id' here",
    "save_code": "use log_artifact(path, name=..., type='code'); environment.json and diff.patch are always sent",
    "tensorboard": "use get_callbacks() or attach(), which log what the framework writes to TensorBoard",
    "sync_tensorboard": "use get_callbacks() or attach(), which log what the framework writes to TensorBoard",
    "monitor_gym": "use log_video",
    "anonymous": "W&B no longer has it; run 'wandb login' or set WANDB_API_KEY",
    "api_key": "set WANDB_API_KEY in the environment or run 'wandb login', so that the key is in no file",
}
"""Arguments of ``wandb.init`` that make no sense from another process, and ours instead."""

REFUSED_SETTINGS: Final[Mapping[str, str]] = {
    "api_key": REFUSED["api_key"],
    "mode": "use 'mode' beside 'settings'",
    "root_dir": "use 'dir' beside 'settings'",
    "project": "use 'project' beside 'settings'",
    "entity": "use 'entity' beside 'settings'",
    "base_url": "use 'base_url' beside 'settings'",
    "run_id": "use 'id' beside 'settings'",
    "run_name": "use 'name' beside 'settings'",
    "run_notes": "use 'notes' beside 'settings'",
    "run_tags": "use 'tags' beside 'settings'",
    "run_group": "use 'group' beside 'settings'",
    "run_job_type": "use 'job_type' beside 'settings'",
    "console": "the delivery process has no console of yours; leave it out",
    "sync_tensorboard": REFUSED["sync_tensorboard"],
    "save_code": REFUSED["save_code"],
    "reinit": REFUSED["reinit"],
    "resume": REFUSED["resume"],
    "resume_from": REFUSED["resume_from"],
    "fork_from": REFUSED["fork_from"],
    "x_stats_pid": "it is the training process; leave it out",
}
"""Entries of ``settings`` that have a place of their own, or none."""

_PROJECT_FORBIDDEN: Final = "/\\#?%:"
_ID_FORBIDDEN: Final = ":;,#?/'"


def check(name: str, options: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each thing wrong with `options`; empty where nothing is.

    Args:
        name: The sink's name, with which each sentence begins.
        options: The sink's section of the settings.
    """
    wrong = []
    version = installed()
    if version is None:
        wrong.append(f"the '{name}' sink needs wandb: pip install 'rl-logging[wandb]'")
    elif _numbers(version) < MIN_SDK:
        wanted = ".".join(map(str, MIN_SDK))
        wrong.append(
            f"the '{name}' sink needs wandb {wanted} or newer and finds {version}: pip install -U 'rl-logging[wandb]'"
        )
    for key, value in options.items():
        problem = _problem(key, value)
        if problem is not None:
            wrong.append(f"{name}.{key}: {problem}")
    settings = options.get("settings")
    if isinstance(settings, Mapping):
        for key in settings:
            problem = _setting_problem(key)
            if problem is not None:
                wrong.append(f"{name}.settings.{key}: {problem}")
    return wrong


def near(value: str, choices: tuple[str, ...]) -> str:
    """Returns `` (did you mean '...'?)`` where one of `choices` is like `value`, else nothing."""
    matches = difflib.get_close_matches(value.lower(), choices, n=1)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def project_problem(project: str) -> str | None:
    """Returns why W&B takes no project of that name, or None."""
    bad = sorted(set(project) & set(_PROJECT_FORBIDDEN))
    if bad:
        return f"{project!r} has {' '.join(bad)}, which W&B forbids in a project's name"
    if not 0 < len(project) <= 128:
        return f"a project's name has 1 to 128 characters, this one {len(project)}"
    return None


def _problem(key: str, value: Any) -> str | None:
    if key in REFUSED:
        return f"not an option here: {REFUSED[key]}"
    if key not in KNOWN:
        return f"unknown{near(key, KNOWN)}; it may be one of {', '.join(KNOWN)}"
    if value is None:
        return None
    if key == "mode":
        if value in MODES:
            return None
        return f"{value!r} is not one of {', '.join(MODES)}{near(str(value), MODES)}"
    if key == "settings":
        return None if isinstance(value, Mapping) else f"{value!r} is not a mapping of wandb.Settings fields"
    if key in LISTS:
        fits = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        return None if fits else f"{value!r} is not a list of texts"
    if not isinstance(value, str) or not value.strip():
        return f"{value!r} is not a text"
    if key == "project":
        return project_problem(value)
    if key == "id":
        return _id_problem(value)
    if key == "base_url" and not value.startswith(("http://", "https://")):
        return f"{value!r} is not the address of a server (https://...)"
    return None


def _setting_problem(key: str) -> str | None:
    if key in REFUSED_SETTINGS:
        return REFUSED_SETTINGS[key]
    fields = settings_fields()
    if not fields or key in fields:
        return None
    return f"wandb {installed()} has no such setting{near(str(key), tuple(sorted(fields)))}"


def _id_problem(value: str) -> str | None:
    bad = sorted(set(value) & set(_ID_FORBIDDEN))
    if bad or value != value.strip() or len(value) > 128:
        return f"{value!r} is not a run id: at most 128 characters, no outer blanks, none of {_ID_FORBIDDEN}"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[: len(MIN_SDK)])
