"""The logger's verbs for what is kept as a file: pictures, videos, files, texts and models."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rl_logging.jsonable import json_safe
from rl_logging.media import slug
from rl_logging.records import Artifact, Image, Model, Video
from rl_logging.run import keeping, retention
from rl_logging.run.device_media import append_media
from rl_logging.run.handle import RunHandle
from rl_logging.run.saved_model import SavedModel


class FileVerbs(RunHandle):
    """The part of `rl_logging.ExperimentLogger` that logs files."""

    def log_image(self, name: str, image: object, step: int | None = None, caption: str | None = None) -> None:
        """Logs a picture.

        Args:
            name: Its name; pictures of one name are a series over steps.
            image: Shape (H, W), (H, W, C) or (C, H, W) with C of 1, 3 or 4; uint8, bool, or float in [0, 1]; NumPy,
                torch, PIL, a matplotlib figure, or the path of a file.
            step: As in `log_metrics`.
            caption: Shown below it.
        """
        self._guarded(f"log_image '{name}'", self._log_image, name, image, step, caption)

    def log_video(
        self, name: str, frames: object, step: int | None = None, fps: float = 30, caption: str | None = None
    ) -> None:
        """Logs a video.

        Args:
            name: Its name; videos of one name are a series over steps.
            frames: Shape (T, H, W, C) or (T, C, H, W), or a list of frames, as in `log_image`; or a file's path.
            step: As in `log_metrics`.
            fps: Frames a second.
            caption: Shown below it.
        """
        self._guarded(f"log_video '{name}'", self._log_video, name, frames, step, fps, caption)

    def log_artifact(
        self, path: str | Path, name: str | None = None, type: str = "file", metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Logs a file or folder, copied now.

        Args:
            path: Where it is.
            name: Its name in the stores; the file's own without.
            type: What kind of thing it is, such as ``plot`` or ``dataset``.
            metadata: JSON values that go with it.
        """
        self._guarded(f"log_artifact '{path}'", self._log_artifact, path, name, type, metadata)

    def log_text(self, name: str, text: str, step: int | None = None) -> None:
        """Logs a text as a Markdown file, which is an artifact of type ``text``.

        Args:
            name: Its name in the stores; texts of one name are versions of one thing.
            text: The text.
            step: Position on the run's clock; None: where the clock stands.
        """
        self._guarded(f"log_text '{name}'", self._log_text, name, text, step)

    def save_model(
        self,
        model: object,
        name: str = "model",
        metadata: Mapping[str, Any] | None = None,
        step: int | None = None,
        aliases: Iterable[str] = (),
        upload: bool = True,
        register: str | None = None,
    ) -> SavedModel | None:
        """Saves a model below the run directory, and logs it.

        Args:
            model: A torch Module or a mapping of state_dicts; a stable-baselines3 algorithm, with its VecNormalize
                where it has one; a SKRL agent; the path of a file or folder.
            name: Its name; models of one name are versions of one thing.
            metadata: JSON values kept beside it.
            step: Position on the run's clock; None: where the clock stands (saving is no step of its own).
            aliases: What this version is also called, such as ``best``.
            upload: Whether the stores get it; otherwise it is kept in the run directory alone.
            register: The registered model that it becomes a version of, in stores that have a registry: MLflow's
                model registry, W&B's.

        Returns:
            Where it is and its step; None where it could not be saved, which is told.
        """
        given = (model, name, metadata, step, aliases, upload, register)
        return self._guarded(f"save_model '{name}'", self._save_model, *given)  # type: ignore[no-any-return]

    def discard_model(self, saved: SavedModel) -> bool:
        """Deletes a saved model's local copy, unless a store still needs it; it may be asked again later.

        A store needs it until it has confirmed it; one that has refused it, and an offline W&B run, always do.

        Args:
            saved: What `save_model` returned.

        Returns:
            Whether it is gone.
        """
        try:
            return self._discard_model(saved)
        except Exception as error:
            self.warn_once("discard_model", f"discard_model '{saved.name}': {saved.path} is not deleted: {error!r}")
            return False

    def _log_image(self, name: str, image: object, step: int | None, caption: str | None) -> None:
        at = self._steps.stamp(step)
        room = self._last_run.room
        if room is not None:
            refuse = partial(self._tell_not_logged, f"log_image '{name}'")
            keep = partial(keeping.keep_image, room, name, step=at, caption=caption)
            append_media(self._last_run, Image.kind, at, image, keep, refuse)

    def _log_video(self, name: str, frames: object, step: int | None, fps: float, caption: str | None) -> None:
        at = self._steps.stamp(step)
        room = self._last_run.room
        if room is not None:
            refuse = partial(self._tell_not_logged, f"log_video '{name}'")
            keep = partial(keeping.keep_video, room, name, step=at, fps=float(fps), caption=caption)
            append_media(self._last_run, Video.kind, at, frames, keep, refuse)

    def _log_artifact(self, given: str | Path, name: str | None, kind: str, metadata: Mapping[str, Any] | None) -> None:
        room = self._last_run.room
        if room is not None:
            path = Path(given)
            body = keeping.keep_artifact(room, name or path.resolve().name, path, kind, metadata)
            self._append(Artifact.kind, self._steps.now, body)

    def _log_text(self, name: str, text: str, step: int | None) -> None:
        at = self._steps.stamp(step, advance=False)
        room = self._last_run.room
        if room is not None:
            self._append(Artifact.kind, at, keeping.keep_text(room, name, str(text)))

    def _save_model(
        self,
        model: object,
        name: str,
        metadata: Mapping[str, Any] | None,
        step: int | None,
        aliases: Iterable[str],
        upload: bool,
        register: str | None,
    ) -> SavedModel:
        at = self._steps.stamp(step, advance=False)
        kept: Any = json_safe(dict(metadata or {}))
        called = (aliases,) if isinstance(aliases, str) else tuple(map(str, aliases))
        if register is not None and not upload:
            self.warn_once(f"register {name}", f"save_model '{name}': no store registers what is not uploaded")
        room = self._last_run.room
        path = self._path / "models" / slug(name) / f"step_{at}"
        seq = None
        if room is not None:
            body = keeping.keep_model(room, name, model, at, time.time(), kept, called, register)
            path = room / body["path"]
            seq = self._append(Model.kind, at, body) if upload else None
        return SavedModel(name=name, path=path, step=at, metadata=kept, aliases=called, seq=seq)

    def _discard_model(self, saved: SavedModel) -> bool:
        run = self._last_run
        if run.room is None:
            return True
        if saved.seq is not None:
            owed = retention.owed_to(run.states(), run.room, saved.seq)
            if owed is not None:
                if retention.refers(owed):
                    where = self._path / "models"
                    self.warn_once(
                        "discard_model refers",
                        f"models stay in {where}: what '{owed.name}' has of an offline run refers to them",
                    )
                return False
        retention.delete(saved.path)
        return True
