"""Which sinks the settings ask for, in whatever form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from rl_logging import plugins
from rl_logging.settings.sections import SettingsError, section

SECTION: Final = "rl_logging"
SHORTHANDS: Final = ("mlflow", "wandb")


class SinkSettings(msgspec.Struct, kw_only=True, frozen=True):
    """One sink the settings ask for.

    Attributes:
        name: Its name.
        options: As the user gave them.
        factory: ``module:callable``, for a sink without packaging.
        given: A live object: a sink, or a callable that makes one.
        key: Where in the configuration it stands, for errors.
    """

    name: str
    options: dict[str, Any]
    key: str
    factory: str | None = None
    given: Any = None


def asked_sinks(
    config: object,
    whole: Mapping[str, Any],
    full: object,
    place: str,
    environ: Mapping[str, str],
    *,
    alone: bool = False,
) -> list[SinkSettings]:
    """Returns the sinks that the settings ask for.

    Args:
        config: The whole configuration, as the user gave it.
        whole: Its top level.
        full: The setting `sinks`.
        place: Where that stands, for errors.
        environ: Environment variables.
        alone: Whether `full`, where it is given, overrides the sections: they then only give options to what it
            names.

    Raises:
        SettingsError: Something is wrong.
    """
    found: dict[str, SinkSettings] = {}
    turned_off: set[str] = set()
    for name, value in _sink_items(full, place):
        _add_sink(found, turned_off, name, value, f"{place}.{name}")
    for name in SHORTHANDS:
        if name not in whole:
            continue
        value = section(config, name, whole[name])
        if alone and full is not None:
            if name in found and isinstance(value, dict) and not found[name].options:
                _add_sink(found, turned_off, name, value, name)
            continue
        if name in found and value not in (None, False):
            raise SettingsError(f"{name}: this sink is configured twice, here and in {found[name].key}")
        _add_sink(found, turned_off, name, value, name)
    asked_for_none = full is False or (isinstance(full, (list, tuple)) and not full)
    if not found and "mlflow" not in turned_off and not asked_for_none and _has_mlflow(environ):
        found["mlflow"] = SinkSettings(name="mlflow", options={}, key="mlflow")
    return list(found.values())


def _has_mlflow(environ: Mapping[str, str]) -> bool:
    """Whether mlflow can be had; its skinny form opens no local store."""
    return plugins.sdk_present("mlflow") and (plugins.sdk_present("sqlalchemy") or "MLFLOW_TRACKING_URI" in environ)


def _sink_items(full: object, place: str) -> Iterable[tuple[str, object]]:
    if not full:
        return ()
    if isinstance(full, Mapping):
        return [(str(name), value) for name, value in full.items()]
    if isinstance(full, str):
        return [(name, True) for name in re.split(r"[,\s]+", full.strip()) if name]
    if isinstance(full, (list, tuple, set, frozenset)):
        return [(entry, True) if isinstance(entry, str) else (_object_name(entry), entry) for entry in full]
    if plugins.is_sink(full):
        return [(_object_name(full), full)]
    raise SettingsError(f"{place}: got {full!r}, may be {{name: options}} or a list of names")


def _add_sink(found: dict[str, SinkSettings], off: set[str], name: str, value: object, key: str) -> None:
    if value is None or value is False:
        off.add(name)
        return
    if plugins.is_sink(value) or (callable(value) and not isinstance(value, Mapping)):
        found[name] = SinkSettings(name=name, options={}, given=value, key=key)
        return
    options = section(None, key, value)
    assert isinstance(options, dict) or options is True
    given = {} if options is True else dict(options)
    factory = given.pop("factory", None)
    if factory is not None and not isinstance(factory, str):
        raise SettingsError(f"{key}.factory: got {factory!r}, may be 'package.module:callable'")
    try:
        msgspec.json.encode(given)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{key}: options must be JSON values: {error}") from error
    found[name] = SinkSettings(name=name, options=given, factory=factory, key=key)


def _object_name(value: object) -> str:
    return (getattr(value, "__name__", None) or type(value).__name__).lower()
