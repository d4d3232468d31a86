"""Images, videos, models, files and the environment, as artifacts that MLflow's pages show."""

from __future__ import annotations

import json
import posixpath
import tempfile
import uuid
from pathlib import Path

from PIL import Image as Pillow
from PIL import features

from rl_logging.downloads import CHECKSUMS, checksums, write_checksums
from rl_logging.media import materialize
from rl_logging.records import Artifact, Environment, Image, Model, Video
from rl_logging.sinks import Ledger
from rl_logging_mlflow.artifacts import Artifacts
from rl_logging_mlflow.memory import Memory
from rl_logging_mlflow.names import NameTable, clean_image_key, clean_key, clean_path
from rl_logging_mlflow.opening import MAX_TAG_LENGTH
from rl_logging_mlflow.registry import Registry
from rl_logging_mlflow.remote import RemoteRun

THUMBNAIL_PIXELS = 256
"""Longest side of the small copy that MLflow's pages show first."""

_NEW_IMAGE_NAMES = (3, 11)
_IMAGES_TAG = "mlflow.loggedImages"
_NAMES = ("names.json", "names")
_NAMESPACE = uuid.UUID("5b1c9a2e-6c58-5d0b-9d0e-0f6d6c0f3a11")
_FACT_TAGS = {
    "source": "mlflow.source.name",
    "git_commit": "mlflow.source.git.commit",
    "git_branch": "mlflow.source.git.branch",
    "git_remote": "mlflow.source.git.repoURL",
    "user": "mlflow.user",
    "host": "rl_logging.host",
    "python": "rl_logging.python",
}


class FilesWriter:
    """Sends records that point to files.

    Every method raises `TransientError`, `RejectedError` (the run takes nothing), `RefusedError`, `MediaError` or
    `FileNotFoundError`; done twice, each leaves what it left the first time.

    Args:
        run_dir: What the records' paths are relative to.
        bundle_id: The run's id in rl_logging.
        remote: The run in MLflow.
        artifacts: Where files go.
        memory: Keeps names and who owns a path.
        ledger: Is told of names.
        adopted: True where the run is someone else's, whose tags are left as they are.
        artifact_path: As in `Options`.
    """

    def __init__(
        self,
        run_dir: Path,
        bundle_id: str,
        remote: RemoteRun,
        artifacts: Artifacts,
        memory: Memory,
        ledger: Ledger,
        *,
        adopted: bool,
        artifact_path: str | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._bundle_id = bundle_id
        self._remote = remote
        self._artifacts = artifacts
        self._memory = memory
        self._adopted = adopted
        self._artifact_path = artifact_path
        self._registry = Registry(remote, bundle_id, ledger)
        self._image_keys = NameTable(clean_image_key, ledger, memory.kept.images)
        self._folders = NameTable(clean_path, ledger, memory.kept.files)

    def image(self, record: Image) -> None:
        """Sends a stepped image, as `MlflowClient.log_image` names it, with the small copy its pages show first."""
        path = materialize(self._run_dir, record)
        key = self._stored(record.name, self._image_keys)
        step = int(record.step or 0)
        unique = uuid.uuid5(_NAMESPACE, f"{self._bundle_id}/{record.seq}")
        stem = image_stem(key, step, int(record.time * 1000), unique)
        self._artifacts.put_file(path, f"images/{stem}.png")
        if features.check("webp"):
            mark = "%" if "%step%" in stem else "+"
            with tempfile.TemporaryDirectory(prefix="rl_logging-") as folder:
                small = Path(folder) / f"{stem}{mark}compressed.webp"
                _thumbnail(path, small)
                self._artifacts.put_file(small, f"images/{small.name}")
        self._caption(record.caption, f"images/{key}", step, record.seq)
        if _IMAGES_TAG not in self._remote.tags:
            self._remote.set_tags({_IMAGES_TAG: "True"})

    def video(self, record: Video) -> None:
        """Sends ``videos/<name>/step_<n>.mp4``."""
        path = materialize(self._run_dir, record)
        step = int(record.step or 0)
        # Frameworks' recorders call theirs `videos/…` already, for W&B's sake.
        folder = f"videos/{self._stored(record.name, self._folders).removeprefix('videos/')}"
        self._artifacts.put_file(path, self._memory.claim(f"{folder}/step_{step}", path.suffix, record.seq))
        if not _is_file_name(record.caption, Path(record.path)):
            self._caption(record.caption, folder, step, record.seq)

    def model(self, record: Model) -> None:
        """Sends the folder ``models/<name>/step_<n>``, its files' hashes last, and points the aliases' tags to it."""
        path = self._inside(record.path)
        folder = f"models/{self._stored(record.name, self._folders)}"
        target = self._memory.claim(f"{folder}/step_{int(record.step or 0)}", "", record.seq)
        self._artifacts.put(path, target)
        if path.is_dir() and not (path / CHECKSUMS).exists():
            with tempfile.TemporaryDirectory(prefix="rl_logging-") as scratch:
                told = Path(scratch) / CHECKSUMS
                # The paths are those the store has.
                write_checksums({self._artifacts.clean(inner): sum for inner, sum in checksums(path).items()}, told)
                self._artifacts.put_file(told, f"{target}/{CHECKSUMS}")
        tags = {clean_key(f"models/{record.name}/{alias}"): target for alias in (*record.aliases, "latest")}
        self._remote.set_tags(tags)
        self._registry.register(record, target)

    def artifact(self, record: Artifact) -> None:
        """Sends ``artifacts/<name>[/step_<n>]/<file>``, or a folder's files there; its type and metadata as a tag.

        What lies at the root of the run directory, where only the run's own files are, and ``names.json`` are sent to
        the root here; the newest state of such a file takes an older one's place.
        """
        path = self._inside(record.path)
        is_the_runs = "/" not in record.path or (record.name, record.type) == _NAMES
        target = path.name if is_the_runs and path.is_file() else self._artifact_target(record, path)
        self._artifacts.put(path, target)
        about = {"path": target, "type": record.type, **({"metadata": record.metadata} if record.metadata else {})}
        text = json.dumps(about, ensure_ascii=False, default=str)
        self._remote.set_tags({clean_key(f"artifacts/{record.name}"): text[:MAX_TAG_LENGTH]})

    def _artifact_target(self, record: Artifact, path: Path) -> str:
        folder = self._artifact_folder(self._stored(record.name, self._folders), record.step)
        if path.is_dir():
            return self._memory.claim(folder, "", record.seq)
        name = self._artifacts.clean(path.name)
        if self._artifact_path is not None and posixpath.basename(folder) == name:
            folder = posixpath.dirname(folder)  # a file that is called what its folder would be
        stem, suffix = posixpath.splitext(posixpath.join(folder, name))
        return self._memory.claim(stem, suffix, record.seq)

    def environment(self, record: Environment) -> None:
        """Sends ``environment.json`` and ``diff.patch``, and sets MLflow's own tags for source, commit and user."""
        for path in filter(None, (record.path, record.patch)):
            self._artifacts.put_file(self._inside(path), clean_path(path))
        tags = {tag: record.facts[fact][:MAX_TAG_LENGTH] for fact, tag in _FACT_TAGS.items() if record.facts.get(fact)}
        if self._adopted:
            tags = {tag: value for tag, value in tags.items() if tag not in self._remote.tags}
        self._remote.set_tags(tags)

    def _artifact_folder(self, name: str, step: int | None) -> str:
        if self._artifact_path is not None:
            return clean_path(self._artifact_path.format(name=name, step=step or 0))
        return f"artifacts/{name}" if step is None else f"artifacts/{name}/step_{step}"

    def _stored(self, name: str, table: NameTable) -> str:
        if table.add([name]):
            self._memory.save()
        return table[name]

    def _inside(self, path: str) -> Path:
        found = self._run_dir / path
        if not found.exists():
            raise FileNotFoundError(f"{found} is missing from the run directory")
        return found

    def _caption(self, caption: str | None, folder: str, step: int, seq: int) -> None:
        # MLflow has no captions; a text beside the medium keeps them findable without disturbing its image pages.
        if not caption:
            return
        target = self._memory.claim(f"captions/{folder}/step_{step}", ".txt", seq)
        with tempfile.TemporaryDirectory(prefix="rl_logging-") as scratch:
            path = Path(scratch) / posixpath.basename(target)
            path.write_text(caption, encoding="utf-8")
            self._artifacts.put_file(path, target)


def _is_file_name(caption: str | None, path: Path) -> bool:
    """Whether a caption only tells of which file the one at `path` is a copy, which is worth no text file."""
    return caption is not None and path.suffix != "" and Path(caption).suffix == path.suffix


def image_stem(key: str, step: int, timestamp_ms: int, unique: uuid.UUID) -> str:
    """Returns the file name, without suffix, that makes MLflow's pages see a stepped image.

    The marks changed with MLflow 3.11, whose pages read both kinds; earlier ones read the old kind only. The old sign
    for a slash, ``#``, is left out: in a URL it ends the path, and all images of such a key became one file.
    """
    from mlflow.version import VERSION

    mark = "+" if tuple(int(part) for part in VERSION.split(".")[:2]) >= _NEW_IMAGE_NAMES else "%"
    return mark.join((key.replace("/", "~"), "step", str(step), "timestamp", str(timestamp_ms), str(unique)))


def _thumbnail(path: Path, small: Path) -> None:
    with Pillow.open(path) as picture:
        width, height = picture.size
        scale = THUMBNAIL_PIXELS / max(width, height)
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        picture.convert("RGBA" if picture.mode in ("RGBA", "LA", "P") else "RGB").resize(size).save(small)
