"""Saving a model into a folder: its own files, and `metadata.json` beside them.

It happens in the caller's thread, because a model changes under whoever saves it later. Frameworks are recognised
without being imported: whoever hands over a torch Module has torch.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from rl_logging.copying import copy_folder
from rl_logging.jsonable import describe, json_safe

log = logging.getLogger("rl_logging.models")

METADATA: Final = "metadata.json"

_ACCEPTED: Final = (
    "a torch Module, a mapping of state_dicts or Modules, a stable-baselines3 algorithm, a SKRL agent or Runner, "
    "the path of a file or folder, or an object with save(path)"
)
_PLAIN: Final = (str, bytes, bool, int, float, complex, type(None))

Save = Callable[[Any, Path], None]


@dataclasses.dataclass(frozen=True)
class StableBaselines3Model:
    """A stable-baselines3 algorithm, and what is to be saved of it.

    Attributes:
        algorithm: The algorithm.
        vec_normalize: Whether the statistics of its VecNormalize, where it has one.
        replay_buffer: Whether its replay buffer, where it has one.
    """

    algorithm: Any
    vec_normalize: bool = True
    replay_buffer: bool = False


class ModelError(TypeError):
    """What was given cannot be saved as a model; the message names its type and what is accepted."""


def save(model: object, folder: Path, *, name: str, step: int | None, metadata: Mapping[str, Any], time: float) -> None:
    """Saves `model` into `folder`, which is there whole afterwards, or not at all.

    =================================================  ==========================================================
    model                                              files beside ``metadata.json``
    =================================================  ==========================================================
    torch Module; mapping of state_dicts or Modules    ``model.pt``
    stable-baselines3 algorithm                        ``model.zip``; ``vecnormalize.pkl`` where it has one;
                                                       ``replay_buffer.pkl`` by `StableBaselines3Model`
    SKRL agent, or a Runner's                          ``agent.pt`` (JAX agents: ``agent.pickle``)
    path of a file, path of a folder                   a copy under its own name
    anything else with ``save(path)``                  what it writes, given the path ``model``
    =================================================  ==========================================================

    A folder's links are followed where they lead to a file inside it; the others, and what is no regular file, are
    left out, which is logged. ``metadata.json`` holds ``name``, ``step``, ``time``, ``kind``, ``class`` and
    ``metadata``.

    Args:
        model: The model.
        folder: Where to; must not exist, its parent is made.
        name: The model's name.
        step: Position on the run's clock, or None.
        metadata: Kept as JSON values.
        time: Wall-clock seconds since the epoch.

    Raises:
        ModelError: It is none of these.
        OSError: It cannot be read or written, or `folder` exists.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already")
    kind, write = _recognise(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.with_name(f"{folder.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    staging.mkdir()
    try:
        write(model, staging)
        described = {
            "name": name,
            "step": step,
            "time": time,
            "kind": kind,
            "class": describe(type(model.algorithm if isinstance(model, StableBaselines3Model) else model)),
            "metadata": json_safe(dict(metadata)),
        }
        with open(staging / METADATA, "w", encoding="utf-8") as file:
            json.dump(described, file, indent=2)
        try:
            os.rename(staging, folder)
        except OSError as error:
            if folder.exists():
                raise FileExistsError(f"{folder} is there already") from error
            raise
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _recognise(model: object) -> tuple[str, Save]:
    """Returns what kind of model it is, and what writes it."""
    if isinstance(model, (str, os.PathLike)):
        source = Path(model)
        if source.is_dir():
            return "folder", _copy_folder
        if source.is_file():
            return "file", _copy_file
        raise ModelError(f"{source}: there is no such file or folder; a model may be {_ACCEPTED}")
    if isinstance(model, StableBaselines3Model):
        return "stable_baselines3", _save_stable_baselines3
    ancestors = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(model).__mro__}
    if "stable_baselines3.common.base_class.BaseAlgorithm" in ancestors:
        return "stable_baselines3", lambda algorithm, to: _save_stable_baselines3(StableBaselines3Model(algorithm), to)
    if any(ancestor.startswith(("skrl.agents.", "skrl.multi_agents.")) for ancestor in ancestors):
        return "skrl", _save_skrl
    if any(ancestor.startswith("skrl.utils.runner.") for ancestor in ancestors):
        return "skrl", lambda runner, folder: _save_skrl(runner.agent, folder)
    if "torch.nn.modules.module.Module" in ancestors:
        return "torch", lambda module, folder: _torch().save(module.state_dict(), folder / "model.pt")
    if isinstance(model, Mapping):
        return "torch", _save_mapping
    if callable(getattr(model, "save", None)) and not isinstance(model, type):
        return "object", _save_itself
    raise ModelError(f"a {describe(type(model))} cannot be saved as a model: it may be {_ACCEPTED}")


def _torch() -> Any:
    torch = sys.modules.get("torch")
    if torch is None:
        raise ModelError(f"a mapping is saved by torch, which is not imported here: a model may be {_ACCEPTED}")
    return torch


def _save_stable_baselines3(model: StableBaselines3Model, folder: Path) -> None:
    algorithm = model.algorithm
    algorithm.save(str(folder / "model.zip"))
    normalizer = algorithm.get_vec_normalize_env()
    if model.vec_normalize and normalizer is not None:
        normalizer.save(str(folder / "vecnormalize.pkl"))
    if model.replay_buffer and getattr(algorithm, "replay_buffer", None) is not None:
        algorithm.save_replay_buffer(str(folder / "replay_buffer.pkl"))


def _save_skrl(agent: Any, folder: Path) -> None:
    of_jax = any(".jax" in cls.__module__ for cls in type(agent).__mro__ if cls.__module__.startswith("skrl."))
    agent.save(str(folder / ("agent.pickle" if of_jax else "agent.pt")))


def _save_mapping(model: Mapping[Any, Any], folder: Path) -> None:
    torch = _torch()
    if not model:
        raise ModelError("an empty mapping is no model")
    torch.save({key: _state(torch, value, f"[{key!r}]") for key, value in model.items()}, folder / "model.pt")


def _state(torch: Any, value: Any, where: str) -> Any:
    """Returns `value` as what torch loads again with ``weights_only=True``, so that no model file needs trust."""
    if hasattr(value, "state_dict"):
        return value.state_dict()
    if isinstance(value, (torch.Tensor, *_PLAIN)):
        return value
    if isinstance(value, Mapping):
        # torch keeps versions on a state_dict itself, so that one is passed on as it is.
        same = type(value).__name__ == "OrderedDict" and hasattr(value, "_metadata")
        return value if same else {key: _state(torch, entry, f"{where}[{key!r}]") for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_state(torch, entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    if hasattr(value, "__array__") and hasattr(value, "dtype"):
        return torch.as_tensor(value.__array__())
    raise ModelError(
        f"the mapping's {where} is a {describe(type(value))}: it may be a Module or anything else with state_dict(), "
        "a tensor or array, a number, text, or a mapping or list of those"
    )


def _save_itself(model: Any, folder: Path) -> None:
    try:
        model.save(str(folder / "model"))
    except Exception as error:
        raise ModelError(
            f"{describe(type(model))}.save(path) failed: {error!r}; save it yourself and give the path"
        ) from (error)
    if not any(folder.iterdir()):
        raise ModelError(f"{describe(type(model))}.save(path) wrote nothing there; save it yourself and give the path")


def _copy_file(model: Any, folder: Path) -> None:
    source = Path(model)
    name = source.name if source.name != METADATA else f"model-{METADATA}"
    shutil.copyfile(source, folder / name)


def _copy_folder(model: Any, folder: Path) -> None:
    source = Path(model)
    if folder.resolve().is_relative_to(source.resolve()):
        raise ModelError(f"{model} holds the run directory, where it would be copied into itself")
    copy_folder(source, folder / (source.resolve().name or "model"))
