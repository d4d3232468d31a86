"""The run's configuration as it grows: what the user gave, and what adapters found out, the user's keys winning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_logging.secrets import mask
from rl_logging.settings.sections import logged, plain


class RunConfig:
    """What is known of a run's configuration; secrets are masked before anything else sees them."""

    def __init__(self) -> None:
        self._given: dict[str, Any] = {}

    def given(self, config: object) -> dict[str, Any]:
        """Returns what the user gave as JSON values, to be logged, and remembers its keys.

        Raises:
            SettingsError: It is no configuration.
        """
        values: dict[str, Any] = mask(logged(plain(config)))
        _merge(self._given, values)
        return values

    def found(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns of what an adapter found out the part that the user did not give; empty where that is nothing."""
        return _without(mask(logged(values)), self._given)


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _without(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    rest: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            rest[key] = value
        elif isinstance(value, Mapping) and isinstance(known[key], Mapping):
            inner = _without(value, known[key])
            if inner:
                rest[key] = inner
    return rest
