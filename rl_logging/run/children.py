"""What a run below another one takes over from it: the settings and sinks that it is not given itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from rl_logging import plugins
from rl_logging.run.identity import new_id
from rl_logging.settings import Loaded, Settings, SettingsError, load
from rl_logging.settings.sinks import SinkSettings

log = logging.getLogger("rl_logging")

OWN: Final = frozenset({"name", "id", "resume", "notes", "parent", "ranks", "group"})
"""Settings that a run does not take over. Its group follows from the parent's run directory."""

NOT_A_CHILD_S: Final = ("parent", "ranks")
"""Keywords that a run below another one would not heed: that is its parent, and who makes it logs."""

OWN_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "mlflow": frozenset({"run_id", "run_name", "parent_run_id"}),
    "wandb": frozenset({"id", "name", "notes", "job_type"}),
}
"""Sinks' options that name one run."""


def below(
    parent: Settings, sinks: tuple[SinkSettings, ...], run_dir: Path, config: object, keywords: Mapping[str, Any]
) -> Loaded:
    """Returns the settings of a run below another one.

    Args:
        parent: The other one's.
        sinks: The other one's.
        run_dir: The other one's run directory.
        config: The new run's own configuration; its sections that are ours go before what is taken over.
        keywords: As of `ExperimentLogger`; they go before all.

    Raises:
        SettingsError: Something is wrong.
    """
    for key in NOT_A_CHILD_S:
        if keywords.get(key) is not None:
            raise SettingsError(f"{key}: child() does not take it: for another parent's run, make an ExperimentLogger")
    # The environment speaks of the program's run: what it says came to the parent, and its id is the parent's alone.
    loaded = load(config, keywords, environ={})
    taken_over = {
        key: getattr(parent, key) for key in Settings.__struct_fields__ if key not in OWN and key not in loaded.given
    }
    if "dir" in taken_over:
        taken_over["dir"] = str(run_dir.parent)
    settings = msgspec.structs.replace(loaded.settings, **taken_over, parent=str(run_dir))
    if settings.id is None:
        settings = msgspec.structs.replace(settings, id=new_id())
    own = loaded.sinks if "sinks" in loaded.given else tuple(map(_without_names, filter(_can_be_shared, sinks)))
    return msgspec.structs.replace(loaded, settings=settings, sinks=own)


def _without_names(sink: SinkSettings) -> SinkSettings:
    own = OWN_OPTIONS.get(sink.name, frozenset())
    return msgspec.structs.replace(sink, options={key: value for key, value in sink.options.items() if key not in own})


def _can_be_shared(sink: SinkSettings) -> bool:
    if sink.given is None or not plugins.is_sink(sink.given):
        return True
    log.warning("%s: a sink object serves one run: give a callable that makes one, for runs below it too", sink.key)
    return False
