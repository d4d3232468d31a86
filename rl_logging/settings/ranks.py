"""Which of a distributed training's processes this one is."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Final

import msgspec

from rl_logging.settings import Loaded

log = logging.getLogger("rl_logging")

_VARIABLES: Final = ("RANK", "LOCAL_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
"""Set by torchrun and its kin, MPI and Slurm; a local rank counts where there is no global one."""


def rank(environ: Mapping[str, str]) -> tuple[int, str]:
    """Returns this process's rank, 0 where nothing says that there are others, and what says so."""
    for variable in _VARIABLES:
        text = environ.get(variable, "").strip()
        if text.isdigit() and not (variable == "SLURM_PROCID" and environ.get("SLURM_NTASKS", "1") == "1"):
            return int(text), variable
    # Asking JAX itself would make it take the devices; what `jax.distributed.initialize` was told does not.
    state = getattr(sys.modules.get("jax._src.distributed"), "global_state", None)
    index = getattr(state, "process_id", None)
    return (index, "jax.distributed") if isinstance(index, int) else (0, "")


def for_this_process(loaded: Loaded, environ: Mapping[str, str]) -> Loaded:
    """Returns the settings for this process: only the first logs, or each of them a run of its own."""
    settings = loaded.settings
    index, told_by = rank(environ)
    if settings.ranks == "all" and told_by:
        changes = {"group": settings.group or settings.name or settings.id}
        changes |= {key: f"{given}-rank{index}" for key in ("name", "id") if (given := getattr(settings, key))}
        return msgspec.structs.replace(loaded, settings=msgspec.structs.replace(settings, **changes))
    if index == 0 or settings.delivery == "disabled":
        return loaded
    tell = log.warning if told_by == "SLURM_PROCID" else log.info
    tell("this process is rank %d (%s) and logs nothing; rl_logging.ranks: all has each rank log", index, told_by)
    return msgspec.structs.replace(loaded, settings=msgspec.structs.replace(settings, delivery="disabled"))
