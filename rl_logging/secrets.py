"""Keeping credentials out of everything that is written down.

A value is secret because of its key (``api_key``, ``MLFLOW_TRACKING_PASSWORD``, ``Authorization``) or because it is
a URL with credentials in it. `mask` and its relatives make a value fit to be shown; `extract` and `restore` carry
secrets past a file through environment variables.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

MASK: Final = "***"
REFERENCE: Final = "$env"
VARIABLE_PREFIX: Final = "RL_LOGGING_SECRET_"

_ALWAYS: Final = re.compile(
    r"api[_\-. ]?key|authorization|(?<![a-z])bearer|cookie|credential|(?<![a-z])jwt|passphrase|passw(?:or)?d|secret"
    r"|webhook|(?:access|account|auth|client|encryption|private|service|ssh|signing)[_\-. ]?key(?![a-z])"
)
_EVEN_NUMBERS: Final = re.compile(r"passphrase|passw(?:or)?d")
_TOKEN: Final = re.compile(r"token(?![a-z])")
# A language model's tokens are counted, embedded and padded; these words say that it is one of those.
_COUNTED: Final = re.compile(
    r"(?:^|[^a-z])(?:bos|budget|cls|count|dim|embeddings?|eos|ids?|index|len|length|limit|mask|max|min|n|num|number|pad"
    r"|per|position|rate|sep|size|type|unk|vocab)(?:$|[^a-z])"
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# The password may hold "@" or, where people forget to quote it, "/"; "host:8080/…@…" has a port, not a password.
_USERINFO: Final = re.compile(
    r"(?P<scheme>(?<![a-zA-Z0-9+.\-])[a-zA-Z][a-zA-Z0-9+.\-]*://)"
    r"(?:(?P<both>[^\s/@:?#\['\"<>]*:(?:[^\s/?#'\"<>]*|(?!\d+[/?#])[^\s@'\"<>]{0,256}))|(?P<user>[^\s/:?#\['\"<>]+))@"
)
_PARAMETER: Final = re.compile(r"(?P<before>[?&;#](?P<key>[\w.\-]+)=)(?P<value>[^\s&;#'\"]+)")
_BEARER: Final = re.compile(r"(?P<before>\bbearer\s+)[\w.~+/=\-]{16,}", re.IGNORECASE)
_ASSIGNED: Final = re.compile(
    r"(?P<before>(?<![\w.\-])(?P<key>[\w.\-]+)['\"]?\s*[=:]\s*)"
    r"(?P<value>'[^']*'|\"[^\"]*\"|(?:(?:basic|bearer|token)\s+)?[^\s'\",;&}\]]+)",
    re.IGNORECASE,
)


class SecretMissingError(Exception):
    """An environment variable that holds a secret is not set here; the message names it and the option it is for."""


@functools.lru_cache(maxsize=4096)
def looks_secret(key: str) -> bool:
    """Whether a value kept under `key` is likely a credential: ``wandb.api_key``, ``DB_PASSWORD``, ``clientSecret``.

    What merely counts or describes a language model's tokens (``max_tokens``, ``pad_token_id``) is not.
    """
    words = _CAMEL.sub("_", key).lower()
    if _ALWAYS.search(words):
        return True
    return bool(_TOKEN.search(words)) and not _COUNTED.search(words)


def mask(value: Any) -> Any:
    """Returns `value` fit to be shown: mappings and sequences copied, what is secret in them replaced by ``***``.

    Numbers are kept unless their key speaks of a password, since ``token_bonus: 0.5`` is a hyperparameter; None,
    booleans and references to environment variables are kept always.
    """
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        return {key: _masked_entry(str(key), entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask(entry) for entry in value]
    return value


def mask_text(text: str) -> str:
    """Returns `text` with the credentials of URLs, secret query parameters and bearer tokens replaced by ``***``."""
    if "://" in text:
        text = _USERINFO.sub(lambda match: f"{match['scheme']}{MASK}@" if _is_credential(match) else match[0], text)
    if "=" in text:
        text = _PARAMETER.sub(_masked_parameter, text)
    return _BEARER.sub(rf"\g<before>{MASK}", text)


def mask_arguments(arguments: Sequence[str]) -> list[str]:
    """Returns a command line fit to be shown: ``--api-key=x``, ``--token x`` and ``wandb.api_key=x`` lose their x."""
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        if hide_next and not argument.startswith("-"):
            shown.append(MASK)
            hide_next = False
            continue
        hide_next = argument.startswith("-") and "=" not in argument and " " not in argument and looks_secret(argument)
        shown.append(_ASSIGNED.sub(_masked_parameter, mask_text(argument)))
    return shown


def strip_url_credentials(url: str) -> str:
    """Returns `url` without user and password; ``ssh://git@host`` keeps its user, who is nobody's secret."""
    return _USERINFO.sub(lambda match: match["scheme"] if _is_credential(match) else match[0], url)


def extract(options: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Takes the secret strings out of `options`.

    Args:
        options: JSON values.
        prefix: Whose they are (a sink's name); part of the variables' names.

    Returns:
        The options with each secret string replaced by ``{"$env": "RL_LOGGING_SECRET_<PREFIX>_<PATH>"}``, and the
        variables to set where `restore` is called.
    """
    environ: dict[str, str] = {}

    def move(value: str, path: tuple[str, ...]) -> dict[str, str]:
        stem = VARIABLE_PREFIX + "_".join(_variable_part(part) for part in (prefix, *path))
        variable, number = stem, 1
        while variable in environ:
            number += 1
            variable = f"{stem}_{number}"
        environ[variable] = value
        return {REFERENCE: variable}

    public = {key: _extracted(value, (str(key),), looks_secret(str(key)), move) for key, value in options.items()}
    return public, environ


def restore(options: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Puts back what `extract` took out.

    Only variables that `extract` could have named are read: options may come from a run directory of someone else's,
    which must not choose what of our environment is sent where.

    Raises:
        SecretMissingError: Variables are not set; all of them are named.
    """
    missing: list[str] = []
    restored = {key: _restored(value, str(key), environ, missing) for key, value in options.items()}
    if missing:
        raise SecretMissingError(
            "credentials are never written to the run directory, so these environment variables must be set: "
            + ", ".join(missing)
        )
    return restored


def _masked_entry(key: str, value: Any) -> Any:
    if not looks_secret(key) or value is None or isinstance(value, bool) or _is_reference(value):
        return mask(value)
    if isinstance(value, (int, float)) and not _EVEN_NUMBERS.search(key.lower()):
        return value
    empty = isinstance(value, (str, Mapping, list, tuple)) and not value
    return value if empty else MASK


def _masked_parameter(match: re.Match[str]) -> str:
    return f"{match['before']}{MASK}" if looks_secret(match["key"]) else match[0]


def _is_credential(match: re.Match[str]) -> bool:
    return match["both"] is not None or match["scheme"].lower().rstrip(":/").rsplit("+")[-1] in ("http", "https")


def _extracted(
    value: Any, path: tuple[str, ...], secret: bool, move: Callable[[str, tuple[str, ...]], dict[str, str]]
) -> Any:
    if isinstance(value, str):
        return move(value, path) if value and (secret or mask_text(value) != value) else value
    if _is_reference(value):
        return dict(value)
    if isinstance(value, Mapping):
        return {
            key: _extracted(entry, (*path, str(key)), secret or looks_secret(str(key)), move)
            for key, entry in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_extracted(entry, (*path, str(index)), secret, move) for index, entry in enumerate(value)]
    return value


def _restored(value: Any, path: str, environ: Mapping[str, str], missing: list[str]) -> Any:
    if _is_reference(value):
        variable = str(value[REFERENCE])
        if not variable.startswith(VARIABLE_PREFIX) or variable not in environ:
            missing.append(f"{variable} (for the option {path})")
            return None
        return environ[variable]
    if isinstance(value, Mapping):
        return {key: _restored(entry, f"{path}.{key}", environ, missing) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_restored(entry, f"{path}[{index}]", environ, missing) for index, entry in enumerate(value)]
    return value


def _is_reference(value: object) -> bool:
    return isinstance(value, Mapping) and set(value) == {REFERENCE}


def _variable_part(part: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", part.upper()).strip("_")
