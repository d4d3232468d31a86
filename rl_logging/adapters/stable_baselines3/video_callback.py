"""The callback that records a policy's episodes while it is trained."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from rl_logging.adapters.stable_baselines3.beside import Beside
from rl_logging.adapters.stable_baselines3.environments import EnvError, make_by, make_env, recipe_of, shares
from rl_logging.adapters.stable_baselines3.isolation import preserved
from rl_logging.adapters.stable_baselines3.periodic_callback import PeriodicCallback, checked
from rl_logging.settings.callbacks import VideoSettings

_PURPOSE: Final = 2
_FPS: Final = 30.0


class VideoRecorderCallback(PeriodicCallback):
    """Records whole episodes every so many environment steps, as the videos ``videos/episode_<i>``.

    They are played in an environment of their own, so that the training's is left alone, and by its `render`; the
    frames go to the run directory one by one. The training is the same with it and without it, as with `EvalCallback`.
    A recording that fails is a warning; the training goes on.

    Args:
        experiment: The `rl_logging.ExperimentLogger`.
        env: A Gymnasium environment with ``render_mode="rgb_array"``, an environment's id, or a callable that makes
            such an environment; not the training's own. None: another one like the logger's `env`. It is wrapped as
            the training's is.
        every_steps: Environment steps of the training from one recording to the next, however many environments.
        episodes: Episodes of one recording, a video each.
        fps: Frames a second; None: what the environment's metadata says, else 30.
        max_steps: After how many steps an episode is cut.
        deterministic: Whether the policy takes its likeliest action, instead of sampling.
        seed: Of the environment and the sampling; None: follows from the training's seed, and an environment that
            was handed over is not seeded.
        name: The videos' name, before the episode's number.
        verbose: As in every callback; this one has nothing to say.

    Raises:
        ValueError: The environment cannot be had, or not be rendered, or does not fit the training's (at the start of
            the training); or an argument is wrong.
        TypeError: There is no such argument; for stable-baselines3's, the message says which one is meant.
    """

    settings: VideoSettings

    def __init__(
        self,
        experiment: Any,
        env: Any = None,
        *,
        every_steps: int = 50_000,
        episodes: int = 1,
        fps: float | None = None,
        max_steps: int = 1_000,
        deterministic: bool = True,
        seed: int | None = None,
        name: str = "videos/episode",
        verbose: int = 0,
        **others: Any,
    ) -> None:
        super().__init__(experiment, checked(VideoSettings, type(self).__name__, locals()), verbose)
        self.name = name
        with preserved():
            found = _find_env(experiment, env)
        self.fps = self.settings.fps or float(found.metadata.get("render_fps") or _FPS)
        self._camera = Camera(found)
        bare = DummyVecEnv([lambda: self._camera])
        what = f"{type(self).__name__}: env"
        self._beside = Beside(bare, env, what=what, seed=self.settings.seed, purpose=_PURPOSE)
        if self._beside.is_own:
            experiment.on_finish(found.close)

    def _init_callback(self) -> None:
        self._beside.fit(self.model, self.training_env)

    def _on_step(self) -> bool:
        if self.is_due():
            self.attempt("recording a video", self._record)
        return True

    def _record(self) -> None:
        step = self.run_step()
        with self._beside.lent_to(self.model, self.training_env):
            for number in range(self.settings.episodes):
                self.experiment.log_video(f"{self.name}_{number}", self._episode(), step=step, fps=self.fps)

    def _episode(self) -> Iterator[Any]:
        """Plays an episode, and yields its frames, from the first state to the last."""
        env = self._beside.env
        assert env is not None
        self._camera.start()
        observation = env.reset()
        state, starts = None, np.ones(1, dtype=bool)
        yield from self._camera.take()
        for _ in range(self.settings.max_steps):
            action, state = self.model.predict(
                observation,
                state=state,
                episode_start=starts,
                deterministic=self.settings.deterministic,
                **self._masks(env),
            )
            observation, _, starts, _ = env.step(action)
            yield from self._camera.take()
            if starts[0]:
                return

    def _masks(self, env: VecEnv) -> dict[str, Any]:
        """Returns which actions are possible, for an algorithm that wants to be told."""
        if not env.has_attr("action_masks") or "MaskablePPO" not in {cls.__name__ for cls in type(self.model).__mro__}:
            return {}
        return {"action_masks": np.stack(env.env_method("action_masks"))}


class Camera(gym.Wrapper[Any, Any, Any, Any]):  # type: ignore[misc]
    """Takes a picture of each state of one episode, the last one too, which a VecEnv resets at once."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._frames: deque[Any] = deque()
        self._rolling = False

    def start(self) -> None:
        """An episode is about to begin, with a reset."""
        self._frames.clear()
        self._rolling = True

    def take(self) -> list[Any]:
        """Returns the pictures since the last call."""
        frames = list(self._frames)
        self._frames.clear()
        return frames

    def reset(self, **options: Any) -> Any:
        """Resets the environment."""
        result = self.env.reset(**options)
        self._look()
        return result

    def step(self, action: Any) -> Any:
        """Takes a step."""
        result = self.env.step(action)
        self._look()
        if result[2] or result[3]:
            self._rolling = False
        return result

    def _look(self) -> None:
        if self._rolling:
            self._frames.append(self.env.render())


def _find_env(experiment: Any, given: Any) -> gym.Env[Any, Any]:
    """Returns what was given, or another environment like the logger's; it is known to render."""
    try:
        if given is not None:
            env = make_env(given, render_mode="rgb_array")
            if experiment.env is not None and shares(env, experiment.env):
                raise EnvError("it is the training's own environment, whose episodes it would break off")
        elif experiment.env is not None:
            env = make_by(recipe_of(experiment.env), render_mode="rgb_array")
        else:
            raise EnvError("there is no environment to record")
        if isinstance(env, VecEnv):
            raise EnvError(f"a {type(env).__name__} is several environments: it takes a single one")
        _check_rendering(env)
        return env
    except EnvError as error:
        raise EnvError(
            f"video: {error}: give one, as get_callbacks(video_env=gym.make(..., render_mode='rgb_array')) or "
            "VideoRecorderCallback(logger, env=...), or the training's to ExperimentLogger(config, env), of which "
            "another is made; 'rl_logging.video: false' records nothing"
        ) from None


def _check_rendering(env: gym.Env[Any, Any]) -> None:
    if env.render_mode != "rgb_array":
        raise EnvError(f"the environment's render_mode is {env.render_mode!r}, not 'rgb_array'")
    try:
        env.reset()
        frame = env.render()
    except Exception as error:
        raise EnvError(f"the environment cannot be rendered: {type(error).__name__}: {error}") from error
    if getattr(frame, "ndim", None) not in (2, 3):
        raise EnvError(f"the environment's render() gives a {type(frame).__name__}, not a picture")
