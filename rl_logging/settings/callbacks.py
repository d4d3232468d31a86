"""The settings of what a training does besides: evaluate, save checkpoints, record videos.

They stand at ``rl_logging.eval``, ``rl_logging.checkpoint`` and ``rl_logging.video``, each a mapping, true (with its
defaults), or false or null (not at all). Where those are absent, the keys that other people's configurations have for
the same are read: ``experiment.eval_frequency`` and ``video.{enabled,record_freq,fps,num_episodes}``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec

from rl_logging.settings.sections import SettingsError, section

UPLOADS: Final = ("best", "last", "all", "none")
FPS_LEAST: Final = 0.01
FPS_MOST: Final = 1000.0


class EvalSettings(msgspec.Struct, kw_only=True, frozen=True):
    """Evaluation.

    Attributes:
        every_steps: Environment steps of the training from one evaluation to the next.
        episodes: Episodes of one evaluation.
        deterministic: Whether the policy takes its likeliest action, instead of sampling.
        seed: Of the evaluation's environment and sampling; None: follows from the training's seed.
        save_best: Whether the best model so far is kept.
        keep_last: How many of the best ones stay in the run directory; None: all.
    """

    every_steps: int = 10_000
    episodes: int = 5
    deterministic: bool = True
    seed: int | None = None
    save_best: bool = True
    keep_last: int | None = 1


class CheckpointSettings(msgspec.Struct, kw_only=True, frozen=True):
    """Checkpoints.

    Attributes:
        every_steps: Environment steps from one checkpoint to the next; there is also one at the end.
        keep_last: How many stay in the run directory; None: all.
        upload: Which models the stores get: best, last, all or none.
        vec_normalize: Whether a checkpoint holds the statistics of the training's VecNormalize.
        replay_buffer: Whether it holds the replay buffer.
    """

    every_steps: int = 50_000
    keep_last: int | None = None
    upload: Literal["best", "last", "all", "none"] = "all"
    vec_normalize: bool = True
    replay_buffer: bool = False


class VideoSettings(msgspec.Struct, kw_only=True, frozen=True):
    """Videos of episodes.

    Attributes:
        every_steps: Environment steps of the training from one recording to the next.
        episodes: Episodes of one recording, a video each.
        fps: Frames a second; None: what the environment says, else 30.
        max_steps: After how many steps an episode is cut.
        deterministic: Whether the policy takes its likeliest action, instead of sampling.
        seed: Of the recorded environment and sampling; None: follows from the training's seed.
    """

    every_steps: int = 50_000
    episodes: int = 1
    fps: float | None = None
    max_steps: int = 1_000
    deterministic: bool = True
    seed: int | None = None


AnySettings = TypeVar("AnySettings", EvalSettings, CheckpointSettings, VideoSettings)

FORMER: Final[Mapping[str, str]] = {
    "eval_freq": "it counts calls, which with n environments are n steps each: give every_steps, in environment steps",
    "save_freq": "it counts calls, which with n environments are n steps each: give every_steps, in environment steps",
    "eval_frequency": "give every_steps, in environment steps",
    "record_freq": "give every_steps, in environment steps",
    "n_eval_episodes": "give episodes",
    "num_episodes": "give episodes",
    "video_length": "whole episodes are recorded: give max_steps, where they are cut",
    "save_replay_buffer": "give replay_buffer",
    "save_vecnormalize": "give vec_normalize",
    "name_prefix": "give name",
    "save_path": "models are kept in the run directory: leave it out",
    "best_model_save_path": "the best model is kept in the run directory: leave it out",
    "log_path": "evaluations are logged to the run: leave it out",
    "render": "give a video's settings instead",
    "warn": "leave it out",
}
"""What other libraries call these settings, and what to do instead."""


def parse(kind: type[AnySettings], key: str, value: object) -> AnySettings | None:
    """Returns the settings of one kind; None where it is turned off.

    Args:
        kind: Which.
        key: Where they stand, for errors.
        value: A mapping, true, false or None.

    Raises:
        SettingsError: Something is wrong; the message names the key.
    """
    given = value if isinstance(value, kind) else section(None, key, value)
    if given is None or given is False:
        return None
    if isinstance(given, kind):
        return given
    options = given if isinstance(given, dict) else {}
    known = kind.__struct_fields__
    for name in options:
        if name not in known:
            raise SettingsError(f"{key}.{name}: {unknown(name, known)}")
    return kind(**{name: _CHECKS[name](f"{key}.{name}", entry) for name, entry in options.items()})


def unknown(name: str, known: tuple[str, ...]) -> str:
    """Returns what to say of a setting that there is not."""
    if name in FORMER:
        return f"there is no such setting: {FORMER[name]}"
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return f"there is no such setting{hint}; known are {', '.join(known)}"


def of_others(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Returns what sections that are not ours say of evaluation and videos.

    Args:
        config: The configuration's top level.

    Returns:
        Settings by key (``eval``, ``video``), and notices about what was not understood.
    """
    found: dict[str, Any] = {}
    notices: list[str] = []

    def read(name: str, entry: object, check: Callable[[str, Any], Any]) -> Any:
        try:
            return check(name, entry)
        except SettingsError as error:
            notices.append(f"{error}; it is not read")
            return None

    frequency = _entry(config.get("experiment"), "eval_frequency")
    if frequency is not None and frequency is not False and frequency != 0:
        every_steps = read("experiment.eval_frequency", frequency, _positive)
        if every_steps is not None:
            found["eval"] = EvalSettings(every_steps=every_steps)
    video = config.get("video")
    if _entry(video, "enabled") is True:
        options = {}
        for theirs, (ours, check) in _VIDEO_KEYS.items():
            entry = _entry(video, theirs)
            checked = None if entry is None else read(f"video.{theirs}", entry, check)
            if checked is not None:
                options[ours] = checked
        found["video"] = VideoSettings(**options)
    return found, notices


def _entry(part: object, key: str) -> object:
    """Returns one entry of a section of the user's own; None where it has none, or is none."""
    try:
        value = part.get(key) if hasattr(part, "get") else getattr(part, key, None)
    except Exception:  # such as an interpolation that does not resolve: the section is not ours
        return None
    return None if callable(value) else value


def _positive(key: str, value: object) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 1 and value == int(value):
        return int(value)
    raise SettingsError(f"{key}: got {value!r}, may be a whole number of 1 or more")


def _positive_or_none(key: str, value: object) -> int | None:
    return None if value is None else _positive(key, value)


def _seed(key: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32:
        return value
    raise SettingsError(f"{key}: got {value!r}, may be a whole number from 0 to 2**32 - 1, or null")


def _fps(key: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        fps = float(value)
        if FPS_LEAST <= fps <= FPS_MOST:
            return fps
    raise SettingsError(f"{key}: got {value!r}, may be a number from {FPS_LEAST:g} to {FPS_MOST:g}, or null")


def _flag(key: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise SettingsError(f"{key}: got {value!r}, may be true or false")


def _upload(key: str, value: object) -> str:
    word = value.strip().lower() if isinstance(value, str) else "none" if value is None else None
    if word in UPLOADS:
        return word
    raise SettingsError(f"{key}: {value!r} is not one of {', '.join(UPLOADS)}")


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "every_steps": _positive,
    "episodes": _positive,
    "deterministic": _flag,
    "seed": _seed,
    "save_best": _flag,
    "keep_last": _positive_or_none,
    "upload": _upload,
    "vec_normalize": _flag,
    "replay_buffer": _flag,
    "fps": _fps,
    "max_steps": _positive,
}
_VIDEO_KEYS: Final[Mapping[str, tuple[str, Callable[[str, Any], Any]]]] = {
    "record_freq": ("every_steps", _positive),
    "fps": ("fps", _fps),
    "num_episodes": ("episodes", _positive),
}
