"""Which files a call of an agent's ``write_checkpoint`` has left, what to call them, and how good they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

_BEST: Final = "best_"
_NO_REWARD: Final = -(2**31)


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

    def metadata(self, agent: Any, timestep: int, mean_return: float | None) -> dict[str, Any]:
        """Returns what is kept beside the file.

        ``reward`` is the mean return of the last 100 finished episodes; of the best one it is skrl's own figure, by
        which skrl chose it. Before the first episode's end there is none.

        Args:
            agent: The agent.
            timestep: skrl's count of steps.
            mean_return: The mean return of the last finished episodes, or None.
        """
        values: dict[str, Any] = {"framework_step": timestep, "file": self.path.name}
        reward = mean_return
        if self.best:
            chosen_by = getattr(agent, "checkpoint_best_modules", {}).get("reward", _NO_REWARD)
            reward = float(chosen_by) if chosen_by > _NO_REWARD else None
        if reward is not None and math.isfinite(reward):
            values["reward"] = reward
        return values


class Checkpoints:
    """Finds each new checkpoint once, however often skrl is asked to write it.

    Args:
        folder: Where the agent writes its checkpoints; it need not exist yet.
        label: What stands before each name: one agent's among several.
    """

    def __init__(self, folder: Path, label: str = "") -> None:
        self._folder = folder
        self._label = label.replace("/", "_")
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
                    yield Checkpoint(path, self._label + path.stem, best=True)
            elif path.stem.endswith(ending) and path.name not in self._written:
                self._written.add(path.name)
                yield Checkpoint(path, self._label + path.stem.removesuffix(ending), best=False)

    def _files(self) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if path.is_file()) if self._folder.is_dir() else []


def _version(path: Path) -> tuple[int, int]:
    # The best one is overwritten under its name: what tells two apart is when it was written.
    status = path.stat()
    return status.st_mtime_ns, status.st_size
