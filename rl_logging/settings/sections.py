"""Turning whatever people configure their training with into plain mappings.

A mapping, an OmegaConf, a dataclass, a Namespace or anything `vars()` takes, the path of a YAML file, or None. The
sections that are ours must resolve; elsewhere what does not resolve is kept as text.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_logging.jsonable import json_safe

MISSING = "???"


class SettingsError(ValueError):
    """A setting is wrong; the message names the key, what it got, and what it may be."""


def plain(config: object) -> dict[str, Any]:
    """Returns the top level of `config` as a mapping; its values are still of the user's types.

    Raises:
        SettingsError: It is none of what can be a configuration.
    """
    if config is None:
        return {}
    if isinstance(config, (str, os.PathLike)):
        return _from_yaml(Path(config))
    if _is_omegaconf(config):
        return {str(key): _omega_value(config, key) for key in config}  # type: ignore[attr-defined]
    fields = _fields(config)
    if fields is None:
        raise SettingsError(
            f"config: a {type(config).__name__} is not a configuration: it may be a mapping, an OmegaConf, a "
            "dataclass, a Namespace, the path of a YAML file, or None"
        )
    return {str(key): value for key, value in fields.items()}


def section(config: object, name: str, value: object) -> dict[str, Any] | bool | None:
    """Returns one of our sections, wholly resolved: a mapping, True (on, with defaults), or False or None (off).

    Args:
        config: The whole configuration, for interpolations.
        name: The section's name, for errors.
        value: What `plain` gave for it.

    Raises:
        SettingsError: It is something else, or does not resolve.
    """
    if value is None or isinstance(value, bool):
        return value
    if _is_omegaconf(value):
        omegaconf = sys.modules["omegaconf"]
        try:
            value = omegaconf.OmegaConf.to_container(
                value, resolve=True, throw_on_missing=True, structured_config_mode=omegaconf.SCMode.DICT
            )
        except omegaconf.errors.OmegaConfBaseException as error:
            raise SettingsError(f"{name}: does not resolve: {str(error).strip()}") from error
    fields = _fields(value)
    if fields is None:
        raise SettingsError(f"{name}: got {value!r}, may be a mapping, true, or null to turn it off")
    return {str(key): _resolved(f"{name}.{key}", entry) for key, entry in fields.items()}


def logged(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration as JSON values for the stores: what cannot be one is text."""
    safe = json_safe({key: _unresolved(value) for key, value in config.items()})
    assert isinstance(safe, dict)
    return safe


def _resolved(name: str, value: object) -> Any:
    if _is_omegaconf(value):
        inner = section(None, name, value) if hasattr(value, "items") else None
        return inner if inner is not None else [_resolved(name, entry) for entry in value]  # type: ignore[attr-defined]
    if isinstance(value, Mapping):
        return {str(key): _resolved(f"{name}.{key}", entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolved(f"{name}[{index}]", entry) for index, entry in enumerate(value)]
    if isinstance(value, str) and (value == MISSING or "${" in value):
        raise SettingsError(f"{name}: {value!r} does not resolve")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def _unresolved(value: object) -> object:
    """Takes OmegaConf's containers apart, leaf by leaf, so that one that does not resolve spoils no other."""
    if not _is_omegaconf(value):
        return value
    if hasattr(value, "items"):
        return {str(key): _unresolved(_omega_value(value, key)) for key in value}  # type: ignore[attr-defined]
    return [_unresolved(_omega_value(value, index)) for index in range(len(value))]  # type: ignore[arg-type]


def _omega_value(config: Any, key: Any) -> object:
    omegaconf = sys.modules["omegaconf"]
    try:
        if omegaconf.OmegaConf.is_missing(config, key):
            return MISSING
        return config[key]
    except (omegaconf.errors.OmegaConfBaseException, KeyError, ValueError, TypeError):
        node = config._get_node(key)
        return str(node._value()) if node is not None else MISSING


def _is_omegaconf(value: object) -> bool:
    omegaconf = sys.modules.get("omegaconf")
    return omegaconf is not None and omegaconf.OmegaConf.is_config(value)


def _fields(value: object) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type) or callable(value):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):  # such as ml_collections' ConfigDict
        return {key: value[key] for key in value.keys()}  # noqa: SIM118 - it need not be iterable
    if isinstance(value, (int, float, str, bytes, list, tuple, set)):
        return None
    try:
        return vars(value)
    except TypeError:
        return None


def _from_yaml(path: Path) -> dict[str, Any]:
    import yaml  # a tenth of what `import rl_logging` would cost

    try:
        with open(path, encoding="utf-8") as file:
            loaded = yaml.safe_load(file)
    except OSError as error:
        raise SettingsError(f"config: {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"config: {path} is not YAML: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise SettingsError(f"config: {path} holds a {type(loaded).__name__}, not a mapping")
    return {str(key): value for key, value in loaded.items()}
