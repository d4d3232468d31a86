"""Loading a saved algorithm again, with all that was saved beside it."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file, recursive_getattr
from stable_baselines3.common.vec_env import VecNormalize, unwrap_vec_normalize

from rl_logging.adapters.stable_baselines3.environments import make_env, vectorized
from rl_logging.run.models import METADATA

MODEL: Final = "model.zip"
NORMALIZER: Final = "vecnormalize.pkl"
REPLAY_BUFFER: Final = "replay_buffer.pkl"

_VERSION: Final = re.compile(r"step_(-?\d+)(?:\.(\d+))?")


def is_saved_as(model: BaseAlgorithm, folder: Path) -> bool:
    """Returns whether the parameters of `model`, its optimizers' too, are those of the model saved in `folder`."""
    try:
        _, parameters, variables = load_from_zip_file(folder / MODEL, load_data=False, device="cpu")
    except (OSError, ValueError):  # it is gone
        return False
    now = {name: recursive_getattr(model, name) for name in variables or {}}
    return _equal(parameters, model.get_parameters()) and _equal(variables or {}, now)


def _equal(saved: Any, now: Any) -> bool:
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        return saved.keys() == now.keys() and all(_equal(entry, now[key]) for key, entry in saved.items())
    if isinstance(saved, (list, tuple)) and isinstance(now, (list, tuple)):
        return len(saved) == len(now) and all(map(_equal, saved, now))
    if isinstance(saved, torch.Tensor) and isinstance(now, torch.Tensor):
        return bool(torch.equal(saved.cpu(), now.detach().cpu()))
    return bool(saved == now)


def load_checkpoint(
    path_or_record: Any,
    env: Any = None,
    device: str = "auto",
    *,
    algorithm: type[BaseAlgorithm] | None = None,
    **options: Any,
) -> BaseAlgorithm:
    """Returns a saved stable-baselines3 algorithm, with its VecNormalize and its replay buffer where it has them.

    Like stable-baselines3's own files these are pickles, which run code when they are loaded: load none that you do
    not trust.

    Args:
        path_or_record: What `ExperimentLogger.save_model` returned, or the folder of a saved model, as it lies in the
            run directory or was downloaded from a store; or one that holds several versions, of which the one with
            the highest step is taken.
        env: An environment, a VecEnv, an environment's id, or a callable that makes one, to go on learning in. The
            saved VecNormalize is put around it; one that it has already gets the saved statistics. Without it,
            ``get_vec_normalize_env()`` is there to normalize observations with.
        device: Where the policy is put.
        algorithm: The class; None: the one that was saved.
        **options: For the class's own ``load``.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: It is no stable-baselines3 algorithm, its class cannot be imported, or `env` does not fit.
    """
    folder = _folder(path_or_record)
    kind = algorithm or _class_of(folder)
    normalizer = _normalizer(folder / NORMALIZER)
    wrapped = None if env is None else _wrapped(make_env(env), normalizer, folder)
    model = kind.load(folder / MODEL, env=wrapped, device=device, **options)
    if normalizer is not None and wrapped is None:
        model._vec_normalize_env = normalizer
    if (folder / REPLAY_BUFFER).is_file() and hasattr(model, "load_replay_buffer"):
        model.load_replay_buffer(folder / REPLAY_BUFFER)
    return model


def _folder(given: Any) -> Path:
    path = Path(given if isinstance(given, (str, os.PathLike)) else given.path)
    if path.name == MODEL and path.is_file():
        return path.parent
    if (path / MODEL).is_file():
        return path
    versions = {
        (int(match[1]), int(match[2] or 1)): child
        for child in (path.iterdir() if path.is_dir() else ())
        if (match := _VERSION.fullmatch(child.name)) and (child / MODEL).is_file()
    }
    if versions:
        return versions[max(versions)]
    hint = (
        "" if path.is_absolute() else "; a record's path is relative to its run directory: give run_dir / record.path"
    )
    raise FileNotFoundError(f"{path}: there is no {MODEL} of a saved stable-baselines3 algorithm{hint}")


def _class_of(folder: Path) -> type[BaseAlgorithm]:
    try:
        name = json.loads((folder / METADATA).read_text(encoding="utf-8"))["class"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{folder / METADATA} does not say which class was saved ({error!r}): give it, as algorithm=PPO"
        ) from error
    module, _, rest = str(name).rpartition(".")
    path = [rest]
    while module:
        try:
            found: Any = importlib.import_module(module)
            for part in path:
                found = getattr(found, part)
        except (ImportError, AttributeError):
            module, _, part = module.rpartition(".")
            path.insert(0, part)
            continue
        if isinstance(found, type) and issubclass(found, BaseAlgorithm):
            return found
        break
    raise ValueError(
        f"{folder}: what was saved is a {name}, which cannot be imported here or is no stable-baselines3 algorithm: "
        "give its class, as algorithm=PPO"
    )


def _normalizer(path: Path) -> VecNormalize | None:
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        normalizer = pickle.load(file)
    if not isinstance(normalizer, VecNormalize):
        raise ValueError(f"{path} holds a {type(normalizer).__name__}, not a VecNormalize")
    return normalizer


def _wrapped(env: Any, normalizer: VecNormalize | None, folder: Path) -> Any:
    venv = vectorized(env)
    if normalizer is None:
        return venv
    own = unwrap_vec_normalize(venv)
    if own is not None:
        if hasattr(normalizer, "obs_rms"):
            own.obs_rms = normalizer.obs_rms
        own.ret_rms = normalizer.ret_rms
        return venv
    try:
        normalizer.set_venv(venv)
    except (AssertionError, ValueError) as error:
        raise ValueError(
            f"the VecNormalize of {folder} does not fit the environment: {error}; give one that has a VecNormalize "
            "where the training's had it"
        ) from error
    return normalizer
