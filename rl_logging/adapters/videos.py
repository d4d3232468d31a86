"""The video recorders in an environment's chain of wrappers, and when they close a file.

A recorder is known by what it has, not by its class: a ``video_folder`` of its own and a method that ends a recording.
That are Gymnasium's `RecordVideo` (which is Isaac Lab's way too), its `wrappers.vector.RecordVideo`, and
stable-baselines3's `VecVideoRecorder`.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from typing import Any, Final

from rl_logging.adapters.autoreset import resets_in_a_step
from rl_logging.adapters.video_hooks import ClosingHook
from rl_logging.videos.watch import VideoWatch

CLOSING: Final = ("stop_recording", "_stop_recording", "close_video_recorder")
"""What ends a recording: Gymnasium 1.x, stable-baselines3, Gymnasium 0.x."""

_FOLDER: Final = "video_folder"
_INNER: Final = ("env", "venv", "_env", "envs")


def watch_env(logger: Any, env: Any, *, prefix: str = "") -> None:
    """Has every video that a recorder around `env` writes logged, with the step at which its file closed.

    Recorders in worker processes are found too where the environment lets them be asked for; their folder is then
    looked at once a second. Never raises; a recorder that is watched already stays so.

    Args:
        logger: The `rl_logging.ExperimentLogger`.
        env: The environment, wrapped or not; None is none.
        prefix: What stands before the videos' names, such as ``eval/``.
    """
    try:
        resets_at_once = any(resets_in_a_step(wrapper) is False for wrapper in _chain(env))
        for recorder in recorders(env):
            _watch(logger, recorder, prefix, resets_at_once=resets_at_once)
        for folder in _folders_of_workers(logger, env):
            VideoWatch.of(logger).add(folder, poll=True, prefix=prefix)
    except Exception as error:
        logger.warn_once(
            "videos of the environment",
            f"the environment's videos are not logged: {type(error).__name__}: {error}; "
            "logger.watch_videos(folder) logs what comes to a folder",
        )


def recorders(env: Any) -> Iterator[Any]:
    """Yields the video recorders in the chain of `env`, of this process."""
    for wrapper in _chain(env):
        if isinstance(vars(wrapper).get(_FOLDER), str) and _closing(wrapper) is not None:
            yield wrapper


def _watch(logger: Any, recorder: Any, prefix: str, *, resets_at_once: bool) -> None:
    watch = VideoWatch.of(logger)
    method = _closing(recorder)
    assert method is not None
    hook = vars(recorder).get(method)
    while isinstance(hook, ClosingHook):
        if hook.watch is watch:
            return
        hook = hook.below
    folder = watch.add(vars(recorder)[_FOLDER], poll=False, prefix=prefix)
    placed = ClosingHook(recorder, method, watch, folder, resets_at_once=resets_at_once)
    found = weakref.ref(placed)  # an environment that is gone before the run's end shall not be held until then

    def leave() -> None:
        hook = found()
        if hook is not None:
            hook.remove()
            if hook.recording:
                logger.warn_once(
                    "videos open",
                    f"the video that is being recorded to {hook.folder.path} is not logged, since the run ends before "
                    "it: close the environment first",
                )

    logger.on_finish(leave)


def _closing(wrapper: Any) -> str | None:
    return next((name for name in CLOSING if callable(getattr(type(wrapper), name, None))), None)


def _chain(env: Any) -> Iterator[Any]:
    """Yields the wrappers and environments that `env` is made of, from the outside; asks none of them anything."""
    seen: set[int] = set()
    left = [env]
    while left:
        current = left.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        # What is no object's own attribute may be another's: wrappers hand on what they are asked for.
        own = getattr(current, "__dict__", None)
        if not isinstance(own, dict):
            continue
        yield current
        for name in _INNER:
            inner = own.get(name)
            left.extend(inner if isinstance(inner, (list, tuple)) else [inner])


def _folders_of_workers(logger: Any, env: Any) -> Iterator[str]:
    """Yields the folders of recorders in the worker processes of vector environments that are idle."""
    subproc = getattr(sys.modules.get("stable_baselines3.common.vec_env.subproc_vec_env"), "SubprocVecEnv", ())
    gymnasium = sys.modules.get("gymnasium")
    if gymnasium is None:
        return
    for wrapper in _chain(env):
        if isinstance(wrapper, subproc) and not wrapper.waiting and not wrapper.closed:
            recording = wrapper.env_is_wrapped(gymnasium.wrappers.RecordVideo)
            indices = [index for index, wrapped in enumerate(recording) if wrapped]
            if indices:
                yield from sorted(set(wrapper.get_attr("video_folder", indices)))
        elif isinstance(wrapper, gymnasium.vector.AsyncVectorEnv) and not wrapper.closed:
            yield from _folders_of_async_workers(logger, wrapper)


def _folders_of_async_workers(logger: Any, env: Any) -> Iterator[str]:
    """Yields the folders of recorders in Gymnasium's worker processes.

    They are all asked the same, and one that is asked for an attribute it has not ends. So they are asked whether they
    have it, by a method that every environment has (Gymnasium 1.0); and for it only where all have.
    """
    if not hasattr(sys.modules["gymnasium"].Env, "has_wrapper_attr"):
        return
    has = env.call("has_wrapper_attr", _FOLDER)
    if all(has):
        yield from sorted({folder for folder in env.get_attr(_FOLDER) if isinstance(folder, str)})
    elif any(has):
        logger.warn_once(
            "videos of workers",
            f"{sum(map(bool, has))} of the {len(has)} worker processes of {type(env).__name__} have a video recorder, "
            "whose folder cannot be asked for: logger.watch_videos(folder) logs its videos",
        )
