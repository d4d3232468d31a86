"""Completing the options in the training process: environment variables, W&B's settings files, credentials."""

from __future__ import annotations

import netrc
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from rl_logging.hookspecs import Surroundings
from rl_logging_wandb.options import MODES, near, project_problem

PUBLIC_HOSTS: Final = ("api.wandb.ai", "api.forge.coreweave.com")
"""The public service's hosts; a key for either serves where no other server is named."""

_VARIABLES: Final[Mapping[str, str]] = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "base_url": "WANDB_BASE_URL",
    "id": "WANDB_RUN_ID",
    "name": "WANDB_NAME",
    "notes": "WANDB_NOTES",
    "group": "WANDB_RUN_GROUP",
    "job_type": "WANDB_JOB_TYPE",
}
_OLD_MODES: Final[Mapping[str, str]] = {"dryrun": "offline", "run": "online"}


def resolve(name: str, options: Mapping[str, Any], surroundings: Surroundings) -> dict[str, Any]:
    """Returns `options` completed so that they mean the same elsewhere and later.

    Args:
        name: The sink's name, for notices.
        options: Options that `check` found right.
        surroundings: The training process's directory, environment and project.
    """
    environ = surroundings.environ
    resolved = {key: value for key, value in options.items() if value is not None}
    notices: list[str] = []
    directory = _directory(resolved.get("dir") or environ.get("WANDB_DIR"), surroundings)
    files = _settings_files(directory, environ)
    # What names one run is its parent's, where it is a run below another one.
    named = frozenset({"id", "name", "notes"}) if surroundings.parent_id is not None else frozenset()
    for key, variable in _VARIABLES.items():
        if key in named:
            continue
        value = environ.get(variable) or files.get(key)
        if key not in resolved and value:
            resolved[key] = value
    if "tags" not in resolved and environ.get("WANDB_TAGS"):
        resolved["tags"] = [tag.strip() for tag in environ["WANDB_TAGS"].split(",") if tag.strip()]
    if "project" not in resolved and surroundings.project:
        resolved["project"] = _project(name, surroundings.project, notices)
    resolved["dir"] = str(directory)
    resolved["mode"] = _mode(name, resolved, environ, files, notices)
    active = _active_run()
    if active is not None and resolved["mode"] != "disabled":
        notices.append(
            f"the W&B run {active} is active in this process and stays as it is: the '{name}' sink writes a run of its "
            f"own, '{resolved.get('name') or surroundings.run_name}' ({resolved.get('id') or surroundings.run_id})"
        )
    if notices:
        resolved["notices"] = notices
    return resolved


def destination(options: Mapping[str, Any]) -> str:
    """Returns where resolved `options` lead: an offline folder, or server, entity, project and run."""
    if options.get("mode") == "disabled":
        return "disabled"
    if options.get("mode") == "offline":
        return "/".join([str(Path(options["dir"], "wandb")), *([options["id"]] if "id" in options else [])])
    server = str(options.get("base_url") or "https://wandb.ai").rstrip("/")
    return "/".join([server, *(str(options.get(key) or "-") for key in ("entity", "project", "id"))])


def look_command(options: Mapping[str, Any], state: Mapping[str, Any]) -> str | None:
    """Returns the command that sends an offline run on, or the address of an online one."""
    if options.get("mode") == "disabled":
        return None
    if options.get("mode") == "offline":
        fragments = state.get("fragments")
        return "wandb sync " + " ".join(map(shlex.quote, fragments)) if fragments else None
    url = state.get("url")
    return str(url) if url else None


def _mode(
    name: str, resolved: Mapping[str, Any], environ: Mapping[str, str], files: Mapping[str, str], notices: list[str]
) -> str:
    given = resolved.get("mode")
    if given is not None:
        return str(given)
    wanted = environ.get("WANDB_MODE") or files.get("mode")
    if wanted:
        mode = _OLD_MODES.get(wanted, wanted)
        if mode in MODES:
            return mode
        notices.append(f"WANDB_MODE={wanted} is not one of {', '.join(MODES)}{near(wanted, MODES)}; it is passed by")
    if _has_credentials(resolved.get("base_url"), environ, files):
        return "online"
    notices.append(
        f"no W&B key is configured, so the '{name}' sink writes an offline run below {resolved['dir']}: 'wandb login' "
        f"or WANDB_API_KEY puts it online, '{name}.mode: offline' silences this"
    )
    return "offline"


def _project(name: str, project: str, notices: list[str]) -> str:
    if project_problem(project) is None:
        return project
    cleaned = re.sub(r"[/\\#?%:]", "-", project)[:128]
    notices.append(f"W&B takes no project called {project!r}: the '{name}' sink calls it {cleaned!r}")
    return cleaned


def _directory(given: str | None, surroundings: Surroundings) -> Path:
    path = _expanded(given, surroundings.environ) if given else Path()
    return Path(surroundings.cwd, path).resolve()


def _expanded(path: str, environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME")
    if home and (path == "~" or path.startswith("~/")):
        return Path(home + path[1:])
    return Path(path).expanduser()


def _settings_files(directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    folder = _expanded(environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb", environ)
    found = [file for file in (folder / "settings", directory / "wandb" / "settings") if file.is_file()]
    if not found:
        return {}
    import configparser  # few have such a file

    # The local file comes last and wins. A percent sign in it is no interpolation.
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(found, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        # W&B itself reports a broken file when it reads it, and goes on without.
        return {}
    return dict(parser["default"]) if parser.has_section("default") else {}


def _has_credentials(base_url: str | None, environ: Mapping[str, str], files: Mapping[str, str]) -> bool:
    if environ.get("WANDB_API_KEY") or environ.get("WANDB_IDENTITY_TOKEN_FILE") or files.get("api_key"):
        return True
    hosts = [urlsplit(base_url).netloc] if base_url else []
    if not base_url or hosts[0] in PUBLIC_HOSTS:
        hosts = [*hosts, *PUBLIC_HOSTS]
    for path in _netrc_files(environ):
        try:
            entries = netrc.netrc(path)
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
        # netrc's own "default" entry answers for every host, and W&B takes it too.
        if any((entries.authenticators(host) or ("", "", ""))[2] for host in hosts):
            return True
    return False


def _netrc_files(environ: Mapping[str, str]) -> list[Path]:
    if environ.get("NETRC"):
        return [_expanded(environ["NETRC"], environ)]
    return [_expanded("~/.netrc", environ), _expanded("~/_netrc", environ)]


def _active_run() -> str | None:
    module = sys.modules.get("wandb")
    run = getattr(module, "run", None)
    if run is None:
        return None
    return f"'{getattr(run, 'name', None) or run.id}' ({run.id})"
