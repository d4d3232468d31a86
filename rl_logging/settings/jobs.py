"""What a scheduler calls the job that this process is a part of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_SLURM: Final = ("SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID")


def default_id(environ: Mapping[str, str]) -> str | None:
    """Returns the id that a scheduler gives a job and, after a preemption, gives it again; None where there is none."""
    job = next((environ[variable] for variable in _SLURM if environ.get(variable)), None)
    if job is None:
        return None
    task = environ.get("SLURM_ARRAY_TASK_ID")
    return f"slurm-{job}-{task}" if task else f"slurm-{job}"
