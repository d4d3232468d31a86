"""Which files a call of an agent's ``write_checkpoint`` has left, and what to call them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

_BEST = "best_"


class Checkpoint(msgspec.Struct, frozen=True):
    """One file of a checkpoint.

    Attributes:
        path: The file.
        name: What it holds: ``agent``, or a module's name where skrl stores them separately; ``best_…`` for the best.
        best: Whether it is the best so far, which skrl keeps under one name.
    """

    path: Path
    name: str
    best: bool


class Checkpoints:
    """Finds each new checkpoint once, however often skrl is asked to write it.

    Args:
        folder: Where the agent writes its checkpoints; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: set[str] = set()
        self._best: dict[str, tuple[int, int]] = {}
        for path in self._files():
            if path.stem.startswith(_BEST):
                self._best[path.name] = _version(path)

    def new(self, timestep: int) -> Iterator[Checkpoint]:
        """Yields what the checkpoint of `timestep` has left and was not yielded before."""
        ending = f"_{timestep}"
        for path in self._files():
            if path.stem.startswith(_BEST):
                version = _version(path)
                if self._best.get(path.name) != version:
                    self._best[path.name] = version
                    yield Checkpoint(path, path.stem, best=True)
            elif path.stem.endswith(ending) and path.name not in self._written:
                self._written.add(path.name)
                yield Checkpoint(path, path.stem.removesuffix(ending), best=False)

    def _files(self) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if path.is_file()) if self._folder.is_dir() else []


def _version(path: Path) -> tuple[int, int]:
    # The best one is overwritten under its name: what tells two apart is when it was written.
    status = path.stat()
    return status.st_mtime_ns, status.st_size
