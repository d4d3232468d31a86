"""From a sink's settings to a destination of a run, credentials apart."""

from __future__ import annotations

import logging

import msgspec

from rl_logging import plugins
from rl_logging.bundle import SinkEntry
from rl_logging.bundle.destination import destination_key
from rl_logging.hookspecs import Surroundings
from rl_logging.secrets import extract, mask
from rl_logging.settings.sinks import SinkSettings

log = logging.getLogger("rl_logging")


class EntryError(Exception):
    """A sink's settings are wrong.

    Attributes:
        problems: A sentence for each thing that is.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def make_entry(sink: SinkSettings, surroundings: Surroundings) -> tuple[SinkEntry, dict[str, str]]:
    """Returns the destination that `sink` names, and the environment variables that hold its credentials.

    Args:
        sink: The sink's settings; no live object.
        surroundings: What the options are completed from.

    Raises:
        EntryError: The plugin cannot be had, or does not take the options.
    """
    try:
        plugin = plugins.load(sink.name, sink.factory)
    except plugins.PluginError as error:
        raise EntryError([f"{sink.key}: {error}"]) from error
    problems = plugin.check_options(sink.options)
    if problems:
        raise EntryError(problems)
    options = plugin.resolve_options(sink.options, surroundings)
    for notice in options.pop("notices", []):
        log.warning("%s: %s", sink.name, notice)
    public, environ = extract(options, sink.name)
    shown = mask(options)
    destination = str(mask(plugin.destination(options) or msgspec.json.encode(shown).decode()))
    try:
        msgspec.json.encode((destination, public))
    except UnicodeEncodeError as error:  # a path whose bytes are not UTF-8
        raise EntryError([f"{sink.key}: {destination!r} is no Unicode: name a place whose path is"]) from error
    entry = SinkEntry(
        name=sink.name,
        options=public,
        given=mask(sink.options),
        destination=destination,
        key=destination_key(sink.name, destination),
        factory=sink.factory,
    )
    return entry, environ


def live_entry(name: str) -> SinkEntry:
    """Returns the destination of a sink that is an object of this process."""
    key = destination_key(name, "object")
    return SinkEntry(name=name, options={}, given={}, destination="this process", key=key, live=True)
