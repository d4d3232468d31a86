"""Putting what a record points to into the run directory, in the caller's thread: a raw dump or a copy, no encoding.

Each function returns the record's body. The folder they write to is the run's (`Run.room`).
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from rl_logging import media
from rl_logging.bundle import write_atomically
from rl_logging.copying import copy_folder
from rl_logging.jsonable import json_safe
from rl_logging.run import models

NAMES: Final = "names.json"


def keep_image(run_dir: Path, name: str, image: object, step: int, caption: str | None) -> dict[str, Any]:
    """Keeps a picture below ``media/images/<name>/``."""
    folder = run_dir / "media" / "images" / media.slug(name)
    file = media.dump_image(image, folder, _stem(step))
    return {"name": name, "path": _relative(run_dir, folder / file), "caption": caption}


def keep_video(run_dir: Path, name: str, frames: object, step: int, fps: float, caption: str | None) -> dict[str, Any]:
    """Keeps a video below ``media/videos/<name>/``."""
    folder = run_dir / "media" / "videos" / media.slug(name)
    file = media.dump_video(frames, folder, _stem(step), fps)
    return {"name": name, "path": _relative(run_dir, folder / file), "fps": fps, "caption": caption}


def keep_artifact(
    run_dir: Path, name: str, path: Path, kind: str, metadata: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Copies a file or folder below ``artifacts/``.

    Raises:
        OSError: It is not there, or cannot be copied.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there")
    folder = run_dir / "artifacts" / f"{media.slug(name)}-{secrets.token_hex(3)}"
    folder.mkdir(parents=True)
    target = folder / (path.resolve().name or "artifact")
    if path.is_dir():
        copy_folder(path, target)
    else:
        shutil.copyfile(path, target)
    kept: Any = json_safe(dict(metadata or {}))
    return {"name": name, "path": _relative(run_dir, target), "type": kind, "metadata": kept}


def keep_text(run_dir: Path, name: str, text: str) -> dict[str, Any]:
    """Writes a text below ``artifacts/``, as Markdown."""
    folder = run_dir / "artifacts" / f"{media.slug(name)}-{secrets.token_hex(3)}"
    folder.mkdir(parents=True)
    target = folder / f"{media.slug(name.rpartition('/')[2])}.md"
    target.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    return {"name": name, "path": _relative(run_dir, target), "type": "text", "metadata": {}}


def keep_names(run_dir: Path, names: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Writes ``names.json``: where each of the adapters' metrics comes from, by its name in the run.

    Names that are there already, from an earlier part of the run, stay. What is logged is a copy: the file itself may
    be written again while a store still reads the earlier state.

    Raises:
        OSError: It cannot be written.
    """
    file = run_dir / NAMES
    known: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        known = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    text = msgspec.json.format(msgspec.json.encode({**known, **names}, order="sorted")) + b"\n"
    write_atomically(file, text)
    copy = run_dir / "artifacts" / f"{NAMES}-{secrets.token_hex(3)}" / NAMES
    write_atomically(copy, text)
    return {"name": NAMES, "path": _relative(run_dir, copy), "type": "names", "metadata": {}}


def keep_model(
    run_dir: Path,
    name: str,
    model: object,
    step: int,
    time: float,
    metadata: Mapping[str, Any],
    aliases: tuple[str, ...],
    register: str | None = None,
) -> dict[str, Any]:
    """Saves a model to ``models/<name>/step_<n>/``; a second one of that step to ``step_<n>.2/``."""
    parent = run_dir / "models" / media.slug(name)
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = parent / (f"step_{step}" if number == 1 else f"step_{step}.{number}")
        if not folder.exists():
            # No lock, which a fork in its midst would leave taken: another thread's save of that step may come first.
            with contextlib.suppress(FileExistsError):
                models.save(model, folder, name=name, step=step, metadata=metadata, time=time)
                break
    body = {"name": name, "path": _relative(run_dir, folder), "metadata": dict(metadata), "aliases": list(aliases)}
    return body if register is None else {**body, "register": register}


def _relative(run_dir: Path, path: Path) -> str:
    return path.relative_to(run_dir).as_posix()


def _stem(step: int) -> str:
    """Returns a file name's stem that no other record of the run has."""
    return f"step_{step}-{secrets.token_hex(4)}"
