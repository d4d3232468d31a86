"""Which of a distributed training's processes this one is, and how the runs of all of them belong together.

Where each process logs a run of its own, they know of each other without a word between them: the ids of all follow
from one that the environment gives to each, and the others' runs stand below that of rank 0.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import socket
import sys
from collections.abc import Mapping
from typing import Final

import msgspec

from rl_logging.processes import boot_id, started_at
from rl_logging.settings import Loaded
from rl_logging.settings.jobs import default_id

log = logging.getLogger("rl_logging")

_VARIABLES: Final = ("RANK", "LOCAL_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
"""Set by torchrun and its kin, MPI and Slurm; a local rank counts where there is no global one."""

_SIZES: Final = (("WORLD_SIZE", "LOCAL_WORLD_SIZE"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"))
"""How many processes there are in all, and on this machine."""

_count = itertools.count(1)


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
        return _of_its_own(loaded, index, environ)
    if index == 0 or settings.delivery == "disabled":
        return loaded
    tell = log.warning if told_by == "SLURM_PROCID" else log.info
    tell("this process is rank %d (%s) and logs nothing; rl_logging.ranks: all has each rank log", index, told_by)
    return msgspec.structs.replace(loaded, settings=msgspec.structs.replace(settings, delivery="disabled"))


def shared_id(environ: Mapping[str, str], count: int) -> str | None:
    """Returns an id that all processes of one start of a training find, and no other start; None where there is none.

    Args:
        environ: Environment variables.
        count: How many times this process has asked: the same in all of them.
    """
    job = environ.get("TORCHELASTIC_RUN_ID", "")
    if job in ("", "none"):  # what torchrun says where nobody gave one
        job = environ.get("SLURM_JOB_ID", "") and f"{environ['SLURM_JOB_ID']}.{environ.get('SLURM_STEP_ID', '')}"
    if not job:
        if not any(environ.get(all_, "?") == environ.get(here) for all_, here in _SIZES):
            return None
        # All on this machine: they have one launcher.
        launcher = os.getppid()
        job = f"{socket.gethostname()} {boot_id()} {launcher} {started_at(launcher)}"
    starts = [environ.get(variable, "0") for variable in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")]
    return hashlib.sha256("\n".join([job, *starts, str(count)]).encode()).hexdigest()[:8]


def _of_its_own(loaded: Loaded, index: int, environ: Mapping[str, str]) -> Loaded:
    settings = loaded.settings
    base = settings.id or (default_id(environ) if settings.resume == "auto" else shared_id(environ, next(_count)))
    changes: dict[str, str | None] = {}
    if settings.name:
        changes["name"] = f"{settings.name}-rank{index}"
    if base:
        changes["id"] = f"{base}-rank{index}"
    # Below a parent, they are in its group.
    changes["group"] = settings.group or (None if settings.parent else settings.name or base)
    if index > 0 and base and settings.parent is None:
        changes["parent"] = f"{base}-rank0"
    return msgspec.structs.replace(loaded, settings=msgspec.structs.replace(settings, **changes))
