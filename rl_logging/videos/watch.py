"""Logging the videos that others write to files, as they close."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, Final

from rl_logging.videos.folder import Listing, VideoFolder

LOOK_S: Final = 1.0
END_S: Final = 2.0
END_LOOK_S: Final = 0.2
END_COPY_S: Final = 20.0

_ATTRIBUTE: Final = "_video_watch"


class VideoWatch:
    """The folders whose videos one logger logs.

    A folder whose writer says when it closes a file is looked at then. The others are looked at by a thread, about
    once a second. All are looked at once more when the run is finished.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._folders: dict[str, VideoFolder] = {}
        self._polled: list[VideoFolder] = []
        # For the list of folders alone. Reentrant: a signal handler may finish the run in the middle of `add`.
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        logger.on_finish(self.finish)

    @classmethod
    def of(cls, logger: Any) -> VideoWatch:
        """Returns the watch of `logger`, which keeps it, so that both live equally long."""
        watch: VideoWatch | None = vars(logger).get(_ATTRIBUTE)
        if watch is None:
            watch = cls(logger)
            setattr(logger, _ATTRIBUTE, watch)
        return watch

    @property
    def active(self) -> bool:
        """Whether the run goes on, in this process."""
        return not self._stopped.is_set() and os.getpid() == self._pid

    def add(self, path: str | Path, name: str | None = None, *, poll: bool, prefix: str = "") -> VideoFolder:
        """Logs what is written to a folder from now on; one that is watched already stays as it is.

        Args:
            path: The folder; it need not be there yet.
            name: What its videos are called; None: by their files' names.
            poll: Whether nobody says when a file closes.
            prefix: What stands before the names that follow from the files'.
        """
        absolute = Path(path).expanduser().absolute()
        with self._lock:
            folder = self._folders.setdefault(os.path.realpath(absolute), VideoFolder(absolute, name, prefix))
            folder.name = name or folder.name
            if poll and folder not in self._polled:
                self._polled.append(folder)
                self._start()
        return folder

    def look(self, folder: VideoFolder, before: Listing | None = None) -> None:
        """Logs what is new and whole in `folder`; see `VideoFolder.look`. Never raises."""
        self._look(folder, before)

    def finish(self) -> None:
        """Looks a last time, and stops. Idempotent.

        It waits `END_S` at most, for all folders together, until what is new is seen not to change any more; and
        `END_COPY_S` for a video that another thread is just copying.
        """
        if not self.active:
            return
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(END_LOOK_S)  # it gives back what it only reads
        folders = list(self._folders.values())
        for folder in folders:
            self._look(folder)
        begun = time.monotonic()
        while waiting := _to_wait_for(folders, time.monotonic() - begun):
            time.sleep(END_LOOK_S)
            for folder in waiting:
                self._look(folder)
        for folder in folders:
            if folder.unsettled:  # what the thread gave back last
                self._look(folder)
            self._tell_of_rest(folder)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(END_LOOK_S)

    def _look(self, folder: VideoFolder, before: Listing | None = None, *, polls: bool = False) -> None:
        if os.getpid() != self._pid:  # a fork's copy of a lock may be held for ever
            return
        stopped = self._stopped.is_set if polls else _never
        try:
            # Only the thread takes the time to read a large video twice.
            for path in folder.new(before, compare=polls, stopped=stopped):
                self._logger.log_video(folder.name_of(path), path, step=self._logger.step, caption=path.name)
        except Exception as error:
            self._logger.warn_once(f"videos {folder.path}", f"the videos in {folder.path} cannot be read: {error}")

    def _tell_of_rest(self, folder: VideoFolder) -> None:
        if folder.unsettled:
            self._logger.warn_once(
                f"videos unsettled {folder.path}",
                f"not logged, since still being written or damaged: {', '.join(folder.unsettled)} in {folder.path}; "
                "close the environment before the run is finished",
            )
        elif folder.busy:
            self._logger.warn_once(
                f"videos busy {folder.path}",
                f"perhaps not logged, since after {END_COPY_S:g} s it was still being copied: a video in {folder.path}",
            )
        elif folder in self._polled and not folder.path.is_dir():
            self._logger.warn_once(f"videos missing {folder.path}", f"watch_videos: there was no folder {folder.path}")

    def _start(self) -> None:
        if self._thread is None and self.active:
            self._thread = threading.Thread(target=self._poll, name="rl_logging-videos", daemon=True)
            self._thread.start()

    def _poll(self) -> None:
        while not self._stopped.wait(LOOK_S):
            for folder in list(self._polled):
                self._look(folder, polls=True)


def _to_wait_for(folders: list[VideoFolder], waited_s: float) -> list[VideoFolder]:
    return [
        folder
        for folder in folders
        if (folder.unsettled and waited_s < END_S) or (folder.busy and waited_s < END_COPY_S)
    ]


def _never() -> bool:
    return False
