"""Where and from what a run was started: `environment.json`, and `diff.patch` where the work is not committed.

It runs once, in a thread beside the training, so it reads little, waits for other programs with a bound, and imports
nothing heavy. Secrets on the command line, in addresses and in variables are masked.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rl_logging.jsonable import json_safe
from rl_logging.run.repository import Repository, find_repository
from rl_logging.secrets import MASK, looks_secret, mask_arguments, mask_text
from rl_logging.sinks import Program

FILE: Final = "environment.json"
PATCH: Final = "diff.patch"
NVIDIA_SMI_S: Final = 5.0

_SCHEDULER_PREFIXES: Final = ("SLURM_", "PBS_", "LSB_", "SGE_", "OAR_", "COBALT_", "FLUX_", "AWS_BATCH_", "_CONDOR_")
_SCHEDULER: Final = frozenset(
    ["JOB_ID", "JOB_NAME", "JOB_COMPLETION_INDEX", "KUBERNETES_SERVICE_HOST", "POD_NAME", "POD_NAMESPACE", "NODE_NAME"]
)
_RANK_PREFIXES: Final = ("OMPI_COMM_WORLD_", "PMI_", "PMIX_RANK", "MV2_COMM_WORLD_")
_RANKS: Final = frozenset(
    ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"]
)
_VARIABLES: Final = frozenset(
    [
        *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
        *("CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"),
        *("NCCL_DEBUG", "NCCL_SOCKET_IFNAME", "XLA_FLAGS", "JAX_PLATFORMS", "TF_DETERMINISTIC_OPS"),
        *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
        *("PYTHONHASHSEED", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_DEFAULT_ENV", "CONDA_PREFIX"),
        *("MUJOCO_GL", "PYOPENGL_PLATFORM", "SDL_VIDEODRIVER", "LD_LIBRARY_PATH", "TZ", "LANG", "CI"),
    ]
)


def capture(folder: Path, program: Program) -> tuple[dict[str, str], bool]:
    """Writes ``environment.json``, and ``diff.patch`` where the repository has uncommitted changes.

    The repository is the one that holds the program's main file, unless that belongs to an installation; else the one
    that holds the working directory. Files git does not track are named, not included.

    Args:
        folder: The run directory.
        program: The training process.

    Returns:
        The facts of `rl_logging.records.Environment`, and whether there is a patch.

    Raises:
        OSError: A file cannot be written.
    """
    repository = find_repository(program)
    patched = repository is not None and repository.write_patch(folder / PATCH)
    described = describe(program, os.environ, repository)
    staging = folder / f".{FILE}.{os.getpid()}.tmp"
    with open(staging, "w", encoding="utf-8") as file:
        json.dump(json_safe(described), file, indent=2)
    os.replace(staging, folder / FILE)
    return _facts(described, program), patched


def describe(program: Program, environ: Mapping[str, str], repository: Repository | None) -> dict[str, Any]:
    """Returns everything that goes into ``environment.json``; what cannot be found out is None or left out."""
    return {
        "captured": time.time(),
        "argv": mask_arguments(program.argv),
        "main": program.main,
        "cwd": program.cwd,
        "pid": program.pid,
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": program.executable,
            "prefix": sys.prefix,
        },
        "platform": {
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "libc": _libc(),
        },
        "host": socket.gethostname(),
        "user": _user(),
        "cpu": {"count": os.cpu_count(), "usable": _usable_cpus()},
        "memory_bytes": _memory_bytes(),
        "gpus": _gpus(),
        "torch": _torch(),
        "scheduler": _selected(environ, _SCHEDULER, _SCHEDULER_PREFIXES),
        "ranks": _selected(environ, _RANKS, _RANK_PREFIXES),
        "variables": _selected(environ, _VARIABLES, ()),
        "git": None if repository is None else repository.described(),
        "packages": packages(sys.path),
    }


def packages(search_path: list[str]) -> dict[str, str]:
    """Returns the installed packages' versions by name.

    They are read off the names of the metadata folders: opening hundreds of files would hold the interpreter for up
    to a second.
    """
    found: dict[str, str] = {}
    for entry in search_path:
        try:
            names = os.listdir(entry or ".")
        except OSError:  # a zip file, or a folder that is not there
            continue
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix in (".dist-info", ".egg-info") and "-" in stem:
                package, version, *_ = stem.split("-")
                found.setdefault(package, version)  # the first on the path is the one that is imported
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _facts(described: Mapping[str, Any], program: Program) -> dict[str, str]:
    git = described["git"] or {}
    facts = {
        "source": program.main or (program.argv[0] if program.argv else None),
        "git_commit": git.get("commit"),
        "git_branch": git.get("branch"),
        "git_remote": git.get("remote"),
        "user": described["user"],
        "host": described["host"],
        "python": described["python"]["version"],
    }
    return {key: value for key, value in facts.items() if value}


def _libc() -> str | None:
    """Returns the C library's version; `platform.libc_ver` would search the whole interpreter's file for it."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):  # another platform, or another C library
        return None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run as a number that has no name
        return None


def _usable_cpus() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _memory_bytes() -> dict[str, int | None]:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        total = None
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no cgroup, or "max"
        limit = None
    return {"total": total, "cgroup_limit": limit}


def _gpus() -> list[dict[str, str]]:
    """Returns what nvidia-smi says; nothing where there is none, or it takes too long."""
    fields = ("index", "name", "uuid", "memory.total", "driver_version")
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=NVIDIA_SMI_S,
            check=True,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields)]


def _torch() -> dict[str, Any] | None:
    """Returns what an imported torch knows without touching a device; its import may be going on in another thread."""
    torch = sys.modules.get("torch")
    version = getattr(torch, "version", None)
    if version is None:
        return None
    return {
        "version": str(getattr(torch, "__version__", None)),
        "cuda": getattr(version, "cuda", None),
        "hip": getattr(version, "hip", None),
    }


def _selected(environ: Mapping[str, str], names: frozenset[str], prefixes: tuple[str, ...]) -> dict[str, str]:
    chosen = {key: value for key, value in environ.items() if key in names or (prefixes and key.startswith(prefixes))}
    return {key: MASK if looks_secret(key) else mask_text(value) for key, value in sorted(chosen.items())}
