"""Finding plugins and asking them: the only module that calls pluggy.

A plugin is loaded by name, when the settings ask for it, into a plugin manager of its own: a broken plugin harms
nobody else, and no hook call of one sink reaches another's plugin.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

import pluggy

from rl_logging import hookspecs
from rl_logging.hookspecs import PROJECT, Surroundings
from rl_logging.sinks import Sink, SinkContext
from rl_logging.stores import Store

GROUP = "rl_logging.sinks"


class PluginError(Exception):
    """A sink cannot be had; the message says why and what to do."""


def installed() -> dict[str, EntryPoint]:
    """Returns the entry points of all installed sinks by name.

    They are looked for once per process and module search path: that reads a file of every installed package.
    """
    return dict(_found_on(tuple(sys.path)))


@functools.lru_cache(maxsize=1)
def _found_on(search_path: tuple[str, ...]) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def load(name: str, factory: str | None = None) -> SinkPlugin:
    """Returns the plugin that serves the sink `name`.

    Args:
        name: The sink's name: an entry point's unless `factory` is given.
        factory: ``package.module:callable`` taking (name, context, options) and returning a sink, for sinks without
            packaging.

    Raises:
        PluginError: No such plugin, or it does not load.
    """
    if factory is not None:
        return SinkPlugin(name, _FactoryPlugin(name, factory))
    found = installed()
    if name not in found:  # it may have been installed since, as one does in a notebook
        _found_on.cache_clear()
        found = installed()
    entry = found.get(name)
    if entry is None:
        import difflib  # where a name is wrong, and only there

        near = difflib.get_close_matches(name, found, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise PluginError(
            f"no sink is called '{name}'{hint}: installed are {', '.join(sorted(found)) or 'none'}; "
            f"install the package that provides it, or give 'factory: package.module:callable'"
        )
    try:
        module = entry.load()
    except Exception as error:
        raise PluginError(f"the '{name}' sink's plugin {entry.value} does not load: {error!r}") from error
    return SinkPlugin(name, module)


class SinkPlugin:
    """One plugin and the name it is asked under; each method is the hook of that name.

    Args:
        name: The sink's name in the settings.
        plugin: The module or object that holds the hook implementations.
    """

    def __init__(self, name: str, plugin: object) -> None:
        self.name = name
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(hookspecs)
        try:
            manager.register(plugin, name=name)
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"the '{name}' sink's plugin does not fit this rl_logging: {error}") from error
        self._hook = manager.hook

    def make_sink(self, context: SinkContext, options: Mapping[str, Any]) -> Sink:
        """Returns a new sink.

        Raises:
            PluginError: The plugin made none.
        """
        sink = self._hook.rl_logging_make_sink(name=self.name, context=context, options=options)
        if sink is None:
            raise PluginError(f"the '{self.name}' sink's plugin made no sink: it must implement rl_logging_make_sink")
        return cast(Sink, sink)

    def check_options(self, options: Mapping[str, Any]) -> list[str]:
        """Returns what is wrong with `options`; empty where nothing is."""
        return self._hook.rl_logging_check_options(name=self.name, options=options) or []

    def resolve_options(self, options: Mapping[str, Any], surroundings: Surroundings) -> dict[str, Any]:
        """Returns `options` completed; as they are where the plugin has nothing to add."""
        resolved = self._hook.rl_logging_resolve_options(name=self.name, options=options, surroundings=surroundings)
        return dict(options if resolved is None else resolved)

    def destination(self, options: Mapping[str, Any]) -> str | None:
        """Returns where resolved `options` lead, or None where the plugin does not say."""
        return cast("str | None", self._hook.rl_logging_destination(name=self.name, options=options))

    def look_command(self, options: Mapping[str, Any], state: Mapping[str, Any]) -> str | None:
        """Returns the command that looks at the delivered run, or None."""
        return cast("str | None", self._hook.rl_logging_look_command(name=self.name, options=options, state=state))

    def open_store(self, location: str) -> Store | None:
        """Returns the store at `location`, or None where that is not this plugin's."""
        return cast("Store | None", self._hook.rl_logging_open_store(location=location))


class _FactoryPlugin:
    """Wraps a bare callable as a plugin."""

    def __init__(self, name: str, factory: str) -> None:
        self._name = name
        self._factory = factory

    @hookspecs.hookimpl
    def rl_logging_make_sink(self, name: str, context: SinkContext, options: Mapping[str, Any]) -> Sink:
        module_name, _, attribute = self._factory.partition(":")
        try:
            factory = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise PluginError(f"rl_logging.sinks.{name}.factory: '{self._factory}' cannot be had: {error}") from error
        return cast(Sink, factory(name, context, options))

    @hookspecs.hookimpl
    def rl_logging_check_options(self, name: str, options: Mapping[str, Any]) -> list[str]:
        module_name, _, attribute = self._factory.partition(":")
        if not module_name or not attribute:
            return [f"rl_logging.sinks.{name}.factory: '{self._factory}' is not 'package.module:callable'"]
        if module_name not in sys.modules and not sdk_present(module_name):
            return [f"rl_logging.sinks.{name}.factory: there is no module '{module_name}' to import"]
        return []


def is_sink(value: object) -> bool:
    """Whether `value` is a sink object, rather than options for one."""
    return not isinstance(value, type) and isinstance(value, Sink)


def sdk_present(name: str) -> bool:
    """Whether the package `name` could be imported; it is not."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
